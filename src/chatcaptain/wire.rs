//! The JSON of the service, read leniently: unknown fields are ignored, every field but an id may be
//! missing, null or of another scalar type. The reference promises little, and a field that is read strictly without
//! need stops every object the day its type changes.
//!
//! Only the fields that the operator uses are kept.

use std::{collections::HashSet, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor},
};

use super::{
    contents::{Contents, Stats},
    error::{ApiCall, Failure, FailureClass, Refusal, mask_volatile_tokens},
    inventory::{DeploymentStatus, LiveVersion},
    lenient::{ErrorField, NestedId, Object, Scalar, TimeField},
    types::{UnidentifiedVersion, Version, VersionId},
};

fn read<T: DeserializeOwned>(call: ApiCall, body: &[u8]) -> Result<T, Failure> {
    let object: Object<T> = serde_json::from_slice(body).map_err(|error| {
        let why = error.to_string();
        // without line and column: they differ from answer to answer, and messages become conditions
        unusable(call, why.split(" at line ").next().unwrap_or_default())
    })?;
    Ok(object.0)
}

/// Most versions of one chatbot. An entry as short as JSON allows takes more memory than its text, so the size of the
/// answer alone is no bound.
const MAX_VERSIONS: usize = 100_000;

/// The entries, or why the list is unusable.
struct Entries(Result<List, String>);

/// The list of versions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct List {
    pub versions: Vec<Version>,
    /// The entries without a usable id.
    pub unidentified: Vec<UnidentifiedVersion>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of versions")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Entries, A::Error> {
                let (mut list, mut known) = (List::default(), HashSet::new());
                while let Some(Object(wire)) = entries.next_element::<Object<WireVersion>>()? {
                    if list.versions.len() + list.unidentified.len() == MAX_VERSIONS {
                        // read on: an `error` behind the list says more than this
                        while entries.next_element::<IgnoredAny>()?.is_some() {}
                        return Ok(Entries(Err(format!("more than {MAX_VERSIONS} versions"))));
                    }
                    match wire.version(&mut known) {
                        Ok(version) => list.versions.push(version),
                        Err(unidentified) => list.unidentified.push(unidentified),
                    }
                }
                Ok(Entries(Ok(list)))
            }
        }
        deserializer.deserialize_seq(EntriesVisitor)
    }
}

#[derive(Deserialize)]
struct ListAnswer {
    versions: Option<Entries>,
    #[serde(default)]
    error: ErrorField,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireVersion {
    #[serde(default)]
    id: Scalar,
    #[serde(default)]
    name: Scalar,
    #[serde(default)]
    description: Scalar,
    #[serde(default)]
    version_number: Scalar,
    #[serde(default)]
    created: TimeField,
    #[serde(default)]
    deployed: TimeField,
    #[serde(default)]
    model_id: Scalar,
    #[serde(default)]
    stats: Stats,
}

impl WireVersion {
    /// `known` are the contents of the versions before it.
    fn version(self, known: &mut HashSet<Arc<Contents>>) -> Result<Version, UnidentifiedVersion> {
        let Ok(id) = VersionId::parse(self.id.0.as_deref().unwrap_or_default()) else {
            return Err(UnidentifiedVersion { name: self.name.0, description: self.description.0 });
        };
        Ok(Version {
            id,
            name: self.name.0,
            description: self.description.0,
            // it goes into statuses and metrics, which are bounded
            number: self.version_number.non_blank().filter(|number| number.len() <= 64),
            created: self.created.0,
            deployed: self.deployed.0,
            contents: Contents::new(self.model_id.non_blank(), &self.stats).map(|new| shared(new, known)),
        })
    }
}

/// The same contents that an earlier version has: most versions of a long list have those of their neighbour.
fn shared(new: Contents, known: &mut HashSet<Arc<Contents>>) -> Arc<Contents> {
    let new = Arc::new(new);
    if let Some(known) = known.get(&new) {
        return known.clone();
    }
    known.insert(new.clone());
    new
}

fn unusable(call: ApiCall, why: &str) -> Failure {
    Failure::new(call, FailureClass::Unknown, &format!("the answer is unusable: {why}"))
}

fn error_in_body(call: ApiCall, error: &str) -> Failure {
    Failure::new(call, FailureClass::Refused(Refusal::ErrorInBody), &mask_volatile_tokens(error))
}

/// Reads the list of versions.
///
/// # Errors
/// *Refused* where the service says `error`; *unknown* where the answer has no list.
pub fn list(body: &[u8]) -> Result<List, Failure> {
    let answer: ListAnswer = read(ApiCall::List, body)?;
    // the error first: a list beside it, above all an empty one, proves nothing
    if let Some(error) = answer.error.0 {
        return Err(error_in_body(ApiCall::List, &error));
    }
    let versions = answer.versions.ok_or_else(|| unusable(ApiCall::List, "no list of versions"))?;
    versions.0.map_err(|error| unusable(ApiCall::List, &error))
}

#[derive(Deserialize)]
struct StatusAnswer {
    test: Option<Object<WireDeployment>>,
    prod: Option<Object<WireDeployment>>,
    #[serde(default)]
    error: ErrorField,
}

#[derive(Deserialize)]
struct WireDeployment {
    #[serde(default)]
    id: Scalar,
    #[serde(default)]
    version: Scalar,
}

/// Reads the deployment status.
///
/// # Errors
/// *Refused* where the service says `error`, *unknown* where the answer cannot be parsed.
pub fn status(body: &[u8]) -> Result<DeploymentStatus, Failure> {
    let answer: StatusAnswer = read(ApiCall::Status, body)?;
    if let Some(error) = answer.error.0 {
        return Err(error_in_body(ApiCall::Status, &error));
    }
    let live = |wire: Option<Object<WireDeployment>>| {
        wire.map(|Object(wire)| LiveVersion { id: wire.id.non_blank(), number: wire.version.non_blank() })
            // an empty object is one more way to say that nothing is live
            .filter(|live| live.id.is_some() || live.number.is_some())
    };
    Ok(DeploymentStatus { test: live(answer.test), prod: live(answer.prod) })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WriteAnswer {
    id: Scalar,
    version_id: Scalar,
    version: NestedId,
    deleted: Option<bool>,
    rolled_back: Option<bool>,
    error: ErrorField,
}

/// Reads the answer of a write with a status of success; of a create, the id of the new version where the answer contains it.
///
/// # Errors
/// *Refused* where the answer says so, *unknown* where it is neither empty nor a JSON object.
pub fn write(call: ApiCall, body: &[u8]) -> Result<Option<VersionId>, Failure> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let answer: WriteAnswer = read(call, body)?;
    let denied = match call {
        ApiCall::Delete if answer.deleted == Some(false) => Some("deleted"),
        ApiCall::Rollback if answer.rolled_back == Some(false) => Some("rolledBack"),
        _ => None,
    };
    // the most specific name first: a bare `id` may be of something else
    let id = [answer.version.0, answer.version_id.0, answer.id.0]
        .iter()
        .filter(|_| call == ApiCall::Create)
        .flatten()
        .find_map(|text| VersionId::parse(text).ok());
    match (answer.error.0, denied) {
        // a version that has an id exists, whatever else went wrong: a second create would make a second one
        (Some(error), _) if id.is_none() => Err(error_in_body(call, &error)),
        (None, Some(field)) => {
            Err(error_in_body(call, &format!("the service answered {field}: false without a reason")))
        }
        _ => Ok(id),
    }
}

/// The message of an answer, as `error` or in the form of a `NestJS` error; `None` if the answer is no JSON object.
#[must_use]
pub fn message(body: &[u8]) -> Option<String> {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Array(list) => {
            Some(list.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join("; "))
        }
        _ => None,
    };
    // `message` first: beside it NestJS has only the name of the status in `error`
    let message = ["message", "error"].iter().find_map(|key| fields.get(*key).and_then(text));
    Some(message.filter(|text| !text.is_empty()).unwrap_or_else(|| "no reason given".to_owned()))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const REFUSED: FailureClass = FailureClass::Refused(Refusal::ErrorInBody);

    #[test]
    fn list_reads_fields_of_other_types() {
        let body = br#"{"versions": [
            {"id": 7, "name": null, "description": {"text": "x"}, "versionNumber": 2.0,
             "created": 1767225600000, "deployed": "2026-01-01T00:00:00Z", "modelId": [], "stats": null},
            {"id": "v8", "created": 1767225600, "deployed": "yesterday", "versionNumber": " "},
            {"id": "v9", "created": {"_seconds": 1767225600, "_nanoseconds": 5000000},
             "deployed": {"seconds": "1767225600", "nanos": 0}, "versionNumber": 2.1}
        ]}"#;
        let List { versions, unidentified } = list(body).unwrap();
        assert_eq!(unidentified, []);
        let new_year: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let expected = |id: &str, number: Option<&str>, deployed| Version {
            id: VersionId::parse(id).unwrap(),
            name: None,
            description: None,
            number: number.map(Into::into),
            created: Some(new_year),
            deployed,
            contents: None,
        };
        let v9 = Version {
            created: Some("2026-01-01T00:00:00.005Z".parse().unwrap()),
            ..expected("v9", Some("2.1"), Some(new_year))
        };
        assert_eq!(versions, [expected("7", Some("2.0"), Some(new_year)), expected("v8", None, None), v9]);
    }

    #[test]
    fn model_and_stats_are_read_and_shared_among_equal_versions() {
        let body = br#"{"versions": [
            {"id": "a", "modelId": 3, "stats": {"intents": 120}}, {"id": "b", "modelId": "3", "stats": {"intents": "120"}},
            {"id": "c", "modelId": " ", "stats": []}, {"id": "d", "stats": {"intents": 121, "by": {"de": 1}}}
        ]}"#;
        let versions = list(body).unwrap().versions;
        let contents = |index: usize| versions[index].contents.as_ref();
        let (a, b) = (contents(0).unwrap(), contents(1).unwrap());
        assert_eq!((a.model_id(), a.stats().collect::<Vec<_>>()), (Some("3"), vec![("intents", 120.0)]));
        assert!(Arc::ptr_eq(a, b));
        assert_eq!(contents(2), None);
        assert_eq!(contents(3).unwrap().stats().collect::<Vec<_>>(), [("intents", 121.0)]);
    }

    #[test]
    fn time_keeps_what_the_service_shows_of_a_second() {
        let created = |json: &str| {
            let body = format!(r#"{{"versions": [{{"id": "v", "created": {json}}}]}}"#);
            list(body.as_bytes()).unwrap().versions[0].created.map(|time| time.to_string())
        };
        assert_eq!(created("1767225600007").as_deref(), Some("2026-01-01T00:00:00.007Z"));
        for json in ["{}", r#"{"_seconds": null}"#, r#"{"_seconds": 253402300800}"#, "-1", "[]", "true"] {
            assert_eq!(created(json), None, "{json}");
        }
    }

    #[test]
    fn entry_without_a_usable_id_is_kept_apart() {
        let body = br#"{"versions": [{"id": "a"}, {"name": "b", "description": "text"}, {"id": ".."}, {"id": "c"}]}"#;
        let List { versions, unidentified } = list(body).unwrap();
        let ids: Vec<&str> = versions.iter().map(|version| version.id.as_str()).collect();
        assert_eq!(ids, ["a", "c"]);
        let named = UnidentifiedVersion { name: Some("b".into()), description: Some("text".into()) };
        assert_eq!(unidentified, [named, UnidentifiedVersion::default()]);
    }

    #[test]
    fn list_without_versions_is_unusable() {
        for (body, class, message) in [
            ("{}", FailureClass::Unknown, "no list of versions"),
            (r#"{"versions": [], "error": "not now"}"#, REFUSED, "not now"),
            (r#"{"versions": [{}, {"id": "a"}], "error": true}"#, REFUSED, "an error without a message"),
            ("<html>", FailureClass::Unknown, "the answer is unusable: expected value"),
        ] {
            let failure = list(body.as_bytes()).unwrap_err();
            assert_eq!(failure.class, class, "{body}");
            assert!(failure.message.ends_with(message), "{body}: {}", failure.message);
        }
    }

    #[test]
    fn status_names_what_is_live_or_nothing() {
        let live = |body: &[u8]| status(body).unwrap();
        let found = live(br#"{"test": {"id": "d1", "version": 2.1}, "prod": {"id": ""}, "dev": []}"#);
        let test = LiveVersion { id: Some("d1".into()), number: Some("2.1".into()) };
        assert_eq!(found, DeploymentStatus { test: Some(test), prod: None });
        assert_eq!(live(b"{}"), DeploymentStatus::default());
        assert_eq!(status(br#"{"error": {"code": 1}}"#).unwrap_err().class, REFUSED);
    }

    #[test]
    fn create_finds_the_id_in_each_form_of_answer() {
        let id =
            |body: &str| write(ApiCall::Create, body.as_bytes()).unwrap().map(|id| id.as_str().to_owned());
        for body in [
            r#"{"version": {"id": "v1", "model": {"id": "m"}}, "id": "request"}"#,
            r#"{"versionId": "v1", "id": "request"}"#,
            r#"{"id": "v1", "user": {"id": "u"}}"#,
            r#"{"id": "v1", "error": "made, but not deployed"}"#,
        ] {
            assert_eq!(id(body).as_deref(), Some("v1"), "{body}");
        }
        for body in ["", " ", "{}", r#"{"id": ".."}"#] {
            assert_eq!(id(body), None, "{body}");
        }
    }

    #[test]
    fn write_is_refused_where_the_answer_says_so() {
        for (call, body, message) in [
            (ApiCall::Create, r#"{"error": "Quota reached"}"#, "Quota reached"),
            (ApiCall::Deploy, r#"{"id": "v1", "error": "not now"}"#, "not now"),
            (
                ApiCall::Delete,
                r#"{"deleted": false}"#,
                "the service answered deleted: false without a reason",
            ),
            (ApiCall::Delete, r#"{"deleted": false, "error": "it is live"}"#, "it is live"),
            (
                ApiCall::Rollback,
                r#"{"rolledBack": false}"#,
                "the service answered rolledBack: false without a reason",
            ),
        ] {
            let failure = write(call, body.as_bytes()).unwrap_err();
            assert_eq!((failure.class, failure.message.as_str()), (REFUSED, message), "{body}");
            assert!(!failure.may_have_happened);
        }
        // of another call these fields say nothing
        assert_eq!(write(ApiCall::Deploy, br#"{"deleted": false, "rolledBack": false}"#), Ok(None));
        assert!(write(ApiCall::Delete, b"<html>").unwrap_err().may_have_happened);
    }
}
