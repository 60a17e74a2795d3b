//! The description of the API: made from the types that are served, kept in `openapi.json`, held against real answers.
//! `STORMGLASS_BLESS=1 cargo test -p stormglass openapi` rewrites the file.

use std::collections::BTreeSet;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::*;
use crate::alerts::Announcement;
use crate::http::announcements::{Announce, List};
use crate::http::config;
use crate::http::identities::{Connections, Libraries};
use crate::http::incidents;
use crate::http::inventory::Servers;
use crate::http::storms::Storms;
use crate::http::views::{Clients, Tenants};
use crate::http::workloads;
use crate::incidents::Incident;

/// The description, and after it the line end that editors expect.
fn described() -> String {
    format!("{:#}\n", document())
}

fn document() -> Value {
    let mut schemas = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let paths = paths(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Stormglass",
            "version": crate::metrics::VERSION,
            "summary": "What the agent of one host has counted of its Valkey and Redis servers.",
            "description": "Every answer is made from the kernel's counters at the moment of the request. Counters begin when \
                the agent first sees a server. Further fields may be added to an answer; those described here stay.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:9466", "description": "`http.listen` of the configuration"}],
        "paths": paths,
        "components": {"schemas": schemas.take_definitions(true)},
    })
}

fn paths(schemas: &mut SchemaGenerator) -> Value {
    let server = parameter(
        "server",
        "Only this server, by its label.",
        &json!({"type": "string"}),
    );
    let prefixes = parameter(
        "prefixes",
        "How many of the prefixes that no rule matches are named.",
        &json!({"type": "integer", "minimum": 0, "default": views::TenantsQuery::default().prefixes}),
    );
    json!({
        "/api/v1/servers": page("The servers of this host.", &[], schemas.subschema_for::<Servers<'_>>().as_value()),
        "/api/v1/tenants": page(
            "Tenants with owners, traffic, sizes, durations, errors and hits; the biggest prefixes that no rule matches.",
            &[&server, &prefixes],
            schemas.subschema_for::<Tenants<'_>>().as_value(),
        ),
        "/api/v1/clients": page(
            "Client addresses and their connections.",
            &[&server],
            schemas.subschema_for::<Clients<'_>>().as_value(),
        ),
        "/api/v1/workloads": page(
            "How groups of clients use their connections, and what a restart of each server would bring.",
            &[&server],
            schemas.subschema_for::<workloads::Page<'_>>().as_value(),
        ),
        "/api/v1/connections": page(
            "Every established connection, with what its client has said of itself.",
            &[&server],
            schemas.subschema_for::<Connections<'_>>().as_value(),
        ),
        "/api/v1/libraries": page(
            "Connections by client library and version, and by user.",
            &[&server],
            schemas.subschema_for::<Libraries<'_>>().as_value(),
        ),
        "/api/v1/storms": page(
            "What the detectors have found: storms that go on, and the last ones that are over.",
            &[&server],
            schemas.subschema_for::<Storms<'_>>().as_value(),
        ),
        "/api/v1/incidents": page(
            "What was recorded of storms.",
            &[],
            schemas.subschema_for::<incidents::List>().as_value(),
        ),
        "/api/v1/incidents/{id}": incident(schemas),
        "/api/v1/announcements": announcements(schemas),
        "/api/v1/config": page(
            "The configuration in force, and what has become of a newer one.",
            &[],
            schemas.subschema_for::<config::Config<'_>>().as_value(),
        ),
        "/api/v1/openapi.json": page("This description.", &[], &json!({"type": "object"})),
    })
}

/// The page of one incident, which has its id in its path.
fn incident(schemas: &mut SchemaGenerator) -> Value {
    let mut page = page(
        "One of them: the server every 100 ms, its clients and tenants, before, during and after the storm.",
        &[],
        schemas.subschema_for::<Incident>().as_value(),
    );
    page["get"]["parameters"] = json!([
        {"name": "id", "in": "path", "required": true, "description": "Which.", "schema": {"type": "string"}}
    ]);
    page["get"]["responses"]["404"] = json!({
        "description": "There is no incident of this id.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    });
    page
}

/// The one page that can be asked for a change.
fn announcements(schemas: &mut SchemaGenerator) -> Value {
    let list = schemas.subschema_for::<List>();
    let mut methods = page(
        "Restarts that somebody has announced: storms that they cover are expected.",
        &[],
        list.as_value(),
    );
    let announcement = schemas.subschema_for::<Announcement>();
    let refusal = |words: &str| json!({"description": words, "content": {"text/plain": {"schema": {"type": "string"}}}});
    let answers = |words: &str| {
        json!({
            "200": {"description": words, "content": {"application/json": {"schema": announcement.as_value()}}},
            "400": refusal("What cannot be meant; the text says why."),
            "403": refusal("Only the host itself may ask for this."),
            "507": refusal("It cannot be kept over a restart of the agent."),
        })
    };
    let mut made = answers("It is good from now on.");
    made["415"] = refusal("The body is not JSON.");
    made["422"] = refusal("The body is other JSON.");
    methods["post"] = json!({
        "summary": "Announces a restart. From the host itself only.",
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": schemas.subschema_for::<Announce>().as_value()}},
        },
        "responses": made,
    });
    let mut gone = answers("It is good no longer.");
    gone["404"] = refusal("There is no announcement of this id.");
    let id = json!({"name": "id", "in": "query", "required": true, "description": "Which.", "schema": {"type": "string"}});
    methods["delete"] = json!({
        "summary": "Takes an announcement back. From the host itself only.",
        "parameters": [id],
        "responses": gone,
    });
    methods
}

fn parameter(name: &str, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema})
}

fn page(summary: &str, parameters: &[&Value], schema: &Value) -> Value {
    let reason = |description: &str| json!({"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}});
    let mut responses = Map::new();
    responses.insert(
        "200".into(),
        json!({"description": "The numbers of this moment.", "content": {"application/json": {"schema": schema}}}),
    );
    if !parameters.is_empty() {
        responses.insert(
            "400".into(),
            reason("A parameter that there is not, a value that cannot be, or a server that is not here."),
        );
    }
    responses.insert(
        "503".into(),
        reason("There are no numbers now; the text says why."),
    );
    json!({"get": {"summary": summary, "parameters": parameters, "responses": responses}})
}

/// Checks answers against the description of their page. Strictly: a field that it does not have is a fault.
fn validator(path: &str) -> jsonschema::Validator {
    let document: Value = serde_json::from_str(routes::OPENAPI).expect("JSON");
    let mut schema =
        document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"].clone();
    assert!(schema.is_object(), "{path} is not described");
    let mut components = document["components"].clone();
    close(&mut components);
    schema["components"] = components;
    jsonschema::validator_for(&schema).expect("a JSON schema")
}

/// Readers have to put up with new fields; here they would be fields without a description.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            if fields.get("properties").is_some_and(Value::is_object)
                && fields.get("type") == Some(&json!("object"))
            {
                fields.insert("additionalProperties".into(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

fn faults(validator: &jsonschema::Validator, answer: &Value) -> Vec<String> {
    let faults = validator.iter_errors(answer);
    faults
        .map(|fault| format!("{}: {fault}", fault.instance_path()))
        .collect()
}

#[test]
fn the_description_is_that_of_the_types_that_are_served() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/openapi.json");
    if std::env::var_os("STORMGLASS_BLESS").is_some() {
        std::fs::write(&path, described()).expect("the description can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == described(),
        "openapi.json is not what the types say; STORMGLASS_BLESS=1 cargo test -p stormglass openapi"
    );
}

#[test]
fn every_field_is_described_in_words() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for (name, schema) in schemas {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{name}.{field}");
        }
    }
}

#[test]
fn every_page_of_the_api_is_described_and_every_described_page_answers_as_it_says() {
    let server = Running::start(report());
    let index = server.get("/");
    let linked: BTreeSet<&str> = index
        .split("href=\"")
        .filter_map(|rest| rest.split('"').next())
        .filter(|link| link.starts_with("/api/"))
        .collect();
    let document = json(&server.get("/api/v1/openapi.json"));
    let mut described: BTreeSet<&str> = document["paths"]
        .as_object()
        .expect("paths")
        .keys()
        .map(String::as_str)
        .collect();
    let one = "/api/v1/incidents/{id}";
    assert!(described.remove(one));
    let answer = json(&server.get("/api/v1/incidents/1-1"));
    assert_eq!(faults(&validator(one), &answer), Vec::<String>::new(), "{one}");
    assert_eq!(
        linked, described,
        "the status page and the description name the same pages"
    );
    for path in described {
        let answer = json(&server.get(path));
        assert_eq!(faults(&validator(path), &answer), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn an_answer_that_the_description_does_not_know_is_found_out() {
    let server = Running::start(report());
    let good = json(&server.get("/api/v1/clients"));
    let validator = validator("/api/v1/clients");
    let with = |field: &str, value: Value| {
        let mut answer = good.clone();
        answer["clients"][0][field] = value;
        faults(&validator, &answer).len()
    };
    assert_eq!(with("connections", json!(1)), 0);
    assert_eq!(with("connections", json!("1")), 1, "another type");
    assert_eq!(with("unheard_of", json!(1)), 1, "a field without description");
    let mut without = good.clone();
    without["clients"][0]
        .as_object_mut()
        .expect("a client")
        .remove("opened");
    assert_eq!(faults(&validator, &without).len(), 1, "a missing field");
}
