//! `spec.windows`: whether one is open, and when the next one opens. Schedules and daylight saving time are those of a
//! `CronJob`: a start that falls into the hour that the clocks skip does not take place.

use cronexpr::Crontab;
use jiff::{SignedDuration, Timestamp};

use crate::crd::ReleaseWindow;

/// Whether versions may be deployed at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Windows {
    /// A window is open, or none is set.
    Open,
    /// The next one opens then; `None`: not within four years.
    Closed(Option<Timestamp>),
    /// A schedule or time zone cannot be read.
    Invalid(String),
}

pub(super) fn windows(windows: &[ReleaseWindow], now: Timestamp) -> Windows {
    let mut opens: Option<Timestamp> = None;
    let mut is_open = windows.is_empty();
    // to the end: an invalid window is reported also while another one is open
    for window in windows {
        let schedule = match schedule(window) {
            Ok(schedule) => schedule,
            Err(invalid) => return Windows::Invalid(invalid),
        };
        let start_after = |time: Timestamp| schedule.find_next(cronexpr::MakeTimestamp(time)).ok();
        let duration = SignedDuration::try_from(window.duration.get()).unwrap_or(SignedDuration::MAX);
        // it has opened within the time that it stays open
        let opened = now.checked_sub(duration).ok().and_then(start_after);
        is_open |= opened.is_some_and(|opened| opened.timestamp() <= now);
        opens = opens.into_iter().chain(start_after(now).map(|start| start.timestamp())).min();
    }
    if is_open { Windows::Open } else { Windows::Closed(opens) }
}

fn schedule(window: &ReleaseWindow) -> Result<Crontab, String> {
    let zone = window.time_zone.as_deref().unwrap_or("UTC");
    let invalid = |error: cronexpr::Error| {
        // it shows the expression below its first line
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim().to_owned();
        format!("schedule {:?} in time zone {zone:?}: {reason}", window.schedule)
    };
    cronexpr::parse_crontab(&format!("{} {zone}", window.schedule)).map_err(invalid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn window(schedule: &str, duration: &str, zone: Option<&str>) -> ReleaseWindow {
        let window = json!({"schedule": schedule, "duration": duration, "timeZone": zone});
        serde_json::from_value(window).unwrap()
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn office_hours(time: &str) -> Windows {
        windows(&[window("0 9 * * 1-5", "8h", Some("Europe/Berlin"))], at(time))
    }

    #[test]
    fn window_is_open_from_its_start_until_its_duration_is_over() {
        // a Tuesday
        let opens = Windows::Closed(Some(at("2026-12-01T08:00:00Z")));
        assert_eq!(office_hours("2026-12-01T07:59:59Z"), opens);
        assert_eq!(office_hours("2026-12-01T08:00:00Z"), Windows::Open);
        assert_eq!(office_hours("2026-12-01T15:59:59Z"), Windows::Open);
        let tomorrow = Windows::Closed(Some(at("2026-12-02T08:00:00Z")));
        assert_eq!(office_hours("2026-12-01T16:00:00Z"), tomorrow);
        let monday = Windows::Closed(Some(at("2026-12-07T08:00:00Z")));
        assert_eq!(office_hours("2026-12-04T16:00:00Z"), monday, "over the weekend");
    }

    #[test]
    fn window_follows_daylight_saving_time() {
        // the clocks of Berlin went forward on 29 March 2026, and back on 25 October
        assert_eq!(office_hours("2026-03-27T08:00:00Z"), Windows::Open);
        assert_eq!(office_hours("2026-03-30T07:00:00Z"), Windows::Open);
        assert_eq!(office_hours("2026-03-30T06:59:00Z"), Windows::Closed(Some(at("2026-03-30T07:00:00Z"))));
        assert_eq!(office_hours("2026-10-26T07:59:00Z"), Windows::Closed(Some(at("2026-10-26T08:00:00Z"))));
        let night = |time| windows(&[window("30 2 * * *", "10m", Some("Europe/Berlin"))], at(time));
        let skipped = Windows::Closed(Some(at("2026-03-30T00:30:00Z")));
        assert_eq!(night("2026-03-29T01:30:00Z"), skipped, "half past two does not exist that day");
        assert_eq!(night("2026-10-25T00:30:00Z"), Windows::Open);
        assert_eq!(night("2026-10-25T01:30:00Z"), Windows::Open, "it comes twice");
    }

    #[test]
    fn any_of_several_windows_in_any_zone_suffices() {
        let zones = [("UTC", None), ("Tokyo", Some("Asia/Tokyo")), ("New York", Some("America/New_York"))];
        let all = zones.map(|(_, zone)| window("0 9 * * *", "1h", zone));
        assert_eq!(windows(&all, at("2026-07-01T00:30:00Z")), Windows::Open, "nine in Tokyo");
        assert_eq!(windows(&all, at("2026-07-01T09:30:00Z")), Windows::Open, "nine by UTC");
        assert_eq!(windows(&all, at("2026-07-01T13:30:00Z")), Windows::Open, "nine in New York");
        let next = Windows::Closed(Some(at("2026-07-01T09:00:00Z")));
        assert_eq!(windows(&all, at("2026-07-01T05:00:00Z")), next);
        assert_eq!(windows(&[], at("2026-07-01T05:00:00Z")), Windows::Open);
    }

    #[test]
    fn window_that_cannot_be_read_says_why() {
        for (schedule, zone, part) in [
            ("0 25 * * *", "UTC", "0 25 * * *"),
            ("0 9 * * 1-5", "Europe/Atlantis", "Europe/Atlantis"),
            ("a b c d e", "UTC", "a b c d e"),
        ] {
            let invalid = windows(&[window(schedule, "1h", Some(zone))], at("2026-07-01T05:00:00Z"));
            let Windows::Invalid(text) = invalid else { panic!("{schedule}: {invalid:?}") };
            assert!(text.contains(part) && !text.contains('\n'), "{text}");
        }
        let never = windows(&[window("0 0 31 2 *", "1h", None)], at("2026-07-01T05:00:00Z"));
        assert_eq!(never, Windows::Closed(None));
    }
}
