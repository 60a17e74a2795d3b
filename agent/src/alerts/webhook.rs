//! What a webhook is sent: docs/ALERTS.md describes it, docs/webhook.schema.json for programs.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue};
use ring::hmac;
use serde::Serialize;

use super::book::Labels;
use super::client::{Client, Failure, Reason, secret};
use super::notice::{Happening, Notice, Unseen};
use super::text::{self, Identity};
use crate::config::Webhook;
use crate::metrics::VERSION;
use crate::storms::Storm;

/// Raised when a reader of the old form could misunderstand the new one; further fields do not raise it.
const FORM: u32 = 1;

/// The body.
#[derive(Serialize)]
struct Message<'a> {
    version: u32,
    id: String,
    event: Happening,
    sequence: u32,
    at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unseen: Option<Unseen>,
    node: &'a str,
    agent: &'static str,
    labels: &'a Labels,
    description: String,
    runbook_url: String,
    generator_url: String,
    storm: &'a Storm,
}

/// The body: the same bytes at each attempt.
pub(super) fn body(notice: &Notice, identity: &Identity) -> serde_json::Result<Bytes> {
    let message = Message {
        version: FORM,
        id: notice.key(),
        event: notice.event,
        sequence: notice.sequence,
        at_ms: notice.at.0,
        unseen: notice.unseen,
        node: &identity.node,
        agent: VERSION,
        labels: &identity.labels,
        description: text::description(&notice.storm),
        runbook_url: identity.runbook(notice.storm.kind),
        generator_url: identity.generator(&notice.storm.id),
        storm: &notice.storm,
    };
    serde_json::to_vec(&message).map(Into::into)
}

/// Tells a webhook. `since_1970`: the time of this attempt.
pub(super) async fn send(
    client: &Client,
    webhook: &Webhook,
    notice: &Notice,
    identity: &Identity,
    since_1970: Duration,
) -> Result<(), Failure> {
    let body = body(notice, identity).map_err(|error| Failure::new(Reason::Refused, error.to_string()))?;
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| {
        let value = HeaderValue::from_str(value);
        value.map(|value| _ = headers.insert(name, value))
    };
    let mut all = set("idempotency-key", &notice.key());
    if let Some(path) = &webhook.hmac_secret_file {
        let timestamp = since_1970.as_secs().to_string();
        let signature = signature(&secret(path)?, &timestamp, &body);
        all = all
            .and_then(|()| set("x-stormglass-timestamp", &timestamp))
            .and_then(|()| set("x-stormglass-signature", &signature));
    }
    all.map_err(|error| Failure::new(Reason::Refused, error.to_string()))?;
    client.post(webhook.receiver.url.uri(), headers, body).await
}

/// HMAC-SHA256 over the timestamp, a point, and the body. The timestamp is part of it so that a receiver can tell a request that
/// somebody has recorded and sends again.
fn signature(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(timestamp.as_bytes());
    context.update(b".");
    context.update(body);
    let digits = context.sign();
    let digits = digits.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("v1={}", digits.collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::alerts::testing::storm;
    use crate::config::Alerts;
    use crate::storms::{Kind, Moment, Severity, Subject};

    const SCHEMA: &str = include_str!("../../../docs/webhook.schema.json");
    const DOCUMENT: &str = include_str!("../../../docs/ALERTS.md");

    fn identity() -> Identity {
        let settings = Alerts {
            labels: [("cluster".into(), "eu-1".into())].into(),
            ..Alerts::default()
        };
        Identity::new(
            &settings,
            "cache-7",
            "127.0.0.1:9466".parse().expect("an address"),
        )
    }

    fn notice() -> Notice {
        Notice {
            sequence: 1,
            event: Happening::Started,
            at: Moment(1_795_412_506_400),
            unseen: None,
            storm: storm("1795412506400-1"),
        }
    }

    fn message(notice: &Notice) -> Value {
        let body = body(notice, &identity()).expect("JSON");
        serde_json::from_slice(&body).expect("JSON")
    }

    fn validator() -> jsonschema::Validator {
        let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
        jsonschema::validator_for(&schema).expect("a JSON schema")
    }

    #[test]
    fn every_message_is_as_the_schema_says() {
        let validator = validator();
        let mut notices = vec![notice()];
        for kind in Kind::ALL {
            for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
                let mut notice = notice();
                (notice.event, notice.sequence) = (Happening::Changed, 2);
                (notice.storm.kind, notice.storm.severity) = (kind, severity);
                notices.push(notice);
            }
        }
        for subject in [
            Subject::Workload,
            Subject::Client,
            Subject::User,
            Subject::Library,
            Subject::Tenant,
            Subject::Prefix,
        ] {
            let mut notice = notice();
            notice.storm.culprits[0].subject = subject;
            notices.push(notice);
        }
        let mut over = notice();
        (over.event, over.unseen) = (Happening::Ended, Some(Unseen::AgentRestarted));
        (over.storm.ended, over.storm.expected) = (Some(Moment(1_795_412_516_400)), true);
        over.storm.culprits.clear();
        notices.push(over);
        for notice in notices {
            let message = message(&notice);
            let faults: Vec<_> = validator
                .iter_errors(&message)
                .map(|fault| fault.to_string())
                .collect();
            assert!(faults.is_empty(), "{faults:?} in {message:#}");
        }
    }

    #[test]
    fn the_schema_refuses_what_no_message_is() {
        let validator = validator();
        let good = message(&notice());
        let changes: [(&str, Value); 6] = [
            ("/version", json!(2)),
            ("/event", json!("begun")),
            ("/sequence", json!(0)),
            ("/storm/kind", json!("reconnect-churn")),
            ("/storm/severity", json!("fatal")),
            ("/storm/culprits/0/share", json!("92 %")),
        ];
        for (place, value) in changes {
            let mut wrong = good.clone();
            *wrong.pointer_mut(place).expect("there") = value;
            assert!(!validator.is_valid(&wrong), "{place}");
        }
        for field in ["id", "event", "storm"] {
            let mut wrong = good.clone();
            wrong.as_object_mut().expect("an object").remove(field);
            assert!(!validator.is_valid(&wrong), "without {field}");
        }
    }

    /// Readers put up with new fields; here a field without a description is a fault.
    #[test]
    fn the_schema_describes_every_field() {
        let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
        let mut notice = notice();
        notice.unseen = Some(Unseen::AgentRestarted);
        described(&schema, &schema, &message(&notice), "");
    }

    fn described(root: &Value, schema: &Value, value: &Value, place: &str) {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => root.pointer(&reference[1..]).expect("a definition"),
            None => schema,
        };
        match value {
            Value::Object(fields) if schema.get("properties").is_some() => {
                for (name, value) in fields {
                    let field = &schema["properties"][name];
                    assert!(field.is_object(), "{place}/{name} is not in the schema");
                    described(root, field, value, &format!("{place}/{name}"));
                }
            }
            Value::Array(items) => {
                for item in items {
                    described(root, &schema["items"], item, &format!("{place}/*"));
                }
            }
            _ => {}
        }
        let reference_or_words = schema["description"].as_str();
        assert!(reference_or_words.is_some(), "{place} has no description");
    }

    #[test]
    fn the_example_of_the_document_is_a_real_message() {
        let begin = DOCUMENT.find("```json\n").expect("an example") + 8;
        let end = begin + DOCUMENT[begin..].find("```").expect("its end");
        let example: Value = serde_json::from_str(&DOCUMENT[begin..end]).expect("JSON");
        assert_eq!(example, message(&notice()));
    }

    /// Case 2 of RFC 4231 has this key; what is signed is ours. The expected value is OpenSSL's:
    /// `printf '1795412506.{"a":1}' | openssl dgst -sha256 -hmac Jefe`.
    #[test]
    fn a_signature_is_what_others_compute() {
        assert_eq!(
            signature(b"Jefe", "1795412506", b"{\"a\":1}"),
            "v1=2d3f725c8422c5afe11a83b6fb7b61e2e9a3fd174d49f69a37dcbae974931bd7"
        );
    }
}
