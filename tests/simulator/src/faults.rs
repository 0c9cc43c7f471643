//! What goes wrong between the client and the service: the faults there are, which one strikes
//! a call, and what it makes of the answer.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::answers::{self, Answer, Body, Refusal, Reply};
use crate::record::Operation;
use crate::service::World;
use crate::settings::Settings;

/// Something that goes wrong between the client and the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Which calls it strikes.
    #[serde(default)]
    pub operation: FaultOperation,
    /// What goes wrong.
    pub kind: FaultKind,
    /// How often it strikes, from 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// How many times it still strikes; counts down, absent means without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// The only chatbot it strikes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chatbot: Option<String>,
    /// How long `hang` holds the answer back, and `hangLate` the end of the connection.
    #[serde(default = "one_second")]
    pub hang_ms: u64,
    /// How long after the call the effect of `lateEffect` and `hangLate` happens.
    #[serde(default = "one_second")]
    pub late_ms: u64,
}

impl Fault {
    /// A fault that always strikes these calls.
    #[must_use]
    pub const fn new(operation: FaultOperation, kind: FaultKind) -> Self {
        Self {
            operation,
            kind,
            probability: always(),
            times: None,
            chatbot: None,
            hang_ms: one_second(),
            late_ms: one_second(),
        }
    }

    /// The same fault, but only so many times.
    #[must_use]
    pub const fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }
}

const fn always() -> f64 {
    1.0
}

const fn one_second() -> u64 {
    1000
}

/// The calls a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultOperation {
    /// Every call.
    #[default]
    Any,
    /// Listing versions.
    List,
    /// Creating a version.
    Create,
    /// Deleting a version.
    Delete,
    /// Deploying a version.
    Deploy,
    /// Rolling back to a version.
    Rollback,
    /// Reading the deployment status.
    Status,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultKind {
    /// 500 as JSON, before the effect.
    Error500,
    /// 500 as JSON, after the effect.
    Error500After,
    /// A gateway's 502 as HTML, before the effect.
    Html502,
    /// A gateway's 502 as HTML, after the effect.
    Html502After,
    /// A gateway's 504 as HTML, after the effect.
    Html504After,
    /// The connection ends without an answer, before the effect.
    Cut,
    /// The connection ends without an answer, after the effect.
    CutAfter,
    /// 200 with something that is not JSON, after the effect.
    Garbage,
    /// The effect happens, the answer comes `hangMs` later.
    Hang,
    /// The connection ends at once, the effect happens `lateMs` later.
    LateEffect,
    /// No answer comes and the connection ends after `hangMs`; the effect happens `lateMs` after the call,
    /// whether the client still waits or not.
    HangLate,
    /// The service says no, in the form of `failuresAs`, and nothing happens.
    Refused,
}

const BAD_GATEWAY: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
const GATEWAY_TIMEOUT: &str = "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>\r\n\
    <center><h1>504 Gateway Time-out</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";

impl World {
    /// The fault that strikes this call; it counts down.
    pub fn draw_fault(&mut self, operation: Operation, chatbot: &str) -> Option<Fault> {
        let rng = &mut self.rng;
        let fault = self.settings.faults.iter_mut().find(|fault| {
            fits(fault, operation, chatbot) && rng.random_bool(fault.probability.clamp(0.0, 1.0))
        })?;
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        Some(fault.clone())
    }
}

impl FaultKind {
    /// The effect comes after the call's own end.
    #[must_use]
    pub const fn is_late(self) -> bool {
        matches!(self, Self::LateEffect | Self::HangLate)
    }

    /// The client waits `hangMs` for what comes.
    #[must_use]
    pub const fn hangs(self) -> bool {
        matches!(self, Self::Hang | Self::HangLate)
    }
}

fn fits(fault: &Fault, operation: Operation, chatbot: &str) -> bool {
    let only = fault.chatbot.as_deref();
    fault.times != Some(0)
        && only.is_none_or(|only| only == chatbot)
        && match fault.operation {
            FaultOperation::Any => true,
            FaultOperation::List => operation == Operation::List,
            FaultOperation::Create => operation == Operation::Create,
            FaultOperation::Delete => operation == Operation::Delete,
            FaultOperation::Deploy => operation == Operation::Deploy,
            FaultOperation::Rollback => operation == Operation::Rollback,
            FaultOperation::Status => operation == Operation::Status,
        }
}

/// The reply of a fault that strikes before the effect.
pub fn before(kind: FaultKind, settings: &Settings, operation: Operation) -> Option<Reply> {
    match kind {
        FaultKind::Refused => {
            let refusal = Refusal::Refused(409, "Quota reached".to_owned());
            Some(Reply::Answer(answers::refusal(settings, operation, refusal)))
        }
        FaultKind::Error500 => Some(Reply::Answer(internal_error())),
        FaultKind::Html502 => Some(html(502, BAD_GATEWAY)),
        FaultKind::Cut | FaultKind::LateEffect | FaultKind::HangLate => Some(Reply::Cut),
        FaultKind::Error500After
        | FaultKind::Html502After
        | FaultKind::Html504After
        | FaultKind::CutAfter
        | FaultKind::Garbage
        | FaultKind::Hang => None,
    }
}

/// What a fault makes of the answer after the effect.
pub fn after(kind: FaultKind, answer: Answer) -> Reply {
    match kind {
        FaultKind::Error500After => Reply::Answer(internal_error()),
        FaultKind::Html502After => html(502, BAD_GATEWAY),
        FaultKind::Html504After => html(504, GATEWAY_TIMEOUT),
        FaultKind::CutAfter => Reply::Cut,
        FaultKind::Garbage => Reply::Answer(Answer::raw(200, b"{\"versions\": [{\"id\": ".to_vec())),
        FaultKind::Hang
        | FaultKind::Error500
        | FaultKind::Html502
        | FaultKind::Cut
        | FaultKind::LateEffect
        | FaultKind::HangLate
        | FaultKind::Refused => Reply::Answer(answer),
    }
}

// The framework's own 500 has no `error`.
fn internal_error() -> Answer {
    let body = serde_json::json!({"statusCode": 500, "message": "Internal server error"});
    Answer::json(500, &body)
}

const fn html(status: u16, text: &'static str) -> Reply {
    Reply::Answer(Answer::new(status, Body::Html(text)))
}
