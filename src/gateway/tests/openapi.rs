//! The document of the API against the routes as they are written.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Front;
use crate::config::Handover;

/// The methods of each path in the source of the router.
fn written() -> BTreeSet<(String, String)> {
    let source = include_str!("../routes/mod.rs");
    let mut found = BTreeSet::new();
    for route in source.split(".route(").skip(1) {
        let route = &route[..route.find(';').unwrap_or(route.len())];
        let path = route.split('"').nth(1).unwrap();
        let handlers = route.split('"').nth(2).unwrap();
        for method in ["get", "post", "put", "patch", "delete"] {
            let before = |start: usize| handlers[..start].chars().next_back();
            let named = |(start, _): (usize, _)| !before(start).is_some_and(char::is_alphanumeric);
            if handlers.match_indices(&format!("{method}(")).any(named) {
                found.insert((path.to_owned(), method.to_owned()));
            }
        }
    }
    found
}

#[tokio::test]
async fn the_document_says_what_routes_there_are() {
    let front = Front::new(Handover::Auto).await;
    let answer = front.ask_with(&[], "GET", "/api/openapi.json", "").await;
    assert_eq!(answer.status, 200);
    let paths = answer.body["paths"].as_object().unwrap();
    let told: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            methods.map(|method| (path.clone(), method.clone()))
        })
        .collect();
    assert_eq!(told, written());
    assert!(told.len() > 20);
}

/// What refers to something finds it.
#[test]
fn the_document_holds_together() {
    fn refer(value: &Value, document: &Value) {
        match value {
            Value::Object(object) => {
                if let Some(target) = object.get("$ref").and_then(Value::as_str) {
                    let target = target.trim_start_matches('#');
                    assert!(document.pointer(target).is_some(), "{target}");
                }
                object.values().for_each(|value| refer(value, document));
            }
            Value::Array(items) => items.iter().for_each(|value| refer(value, document)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
    refer(&document, &document);
}
