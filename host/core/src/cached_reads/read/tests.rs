use super::*;

const OBJECT: &str = "/api/v1/namespaces/a/configmaps/b";
const LIST: &str = "/api/v1/namespaces/a/configmaps";

fn any(label_selector: &str) -> Asked {
    Asked::Any(Any { label_selector: label_selector.to_owned() })
}

#[test]
fn only_resource_version_zero_accepts_any_version() {
    for (path, query, headers, asked_for) in [
        (OBJECT, "", "", Asked::Newest),
        (OBJECT, "?resourceVersion=7", "", Asked::Newest),
        (OBJECT, "?resourceVersion=", "", Asked::Newest),
        (OBJECT, "?resourceVersion=0&resourceVersion=0", "", Asked::Newest),
        (OBJECT, "?resourceVersion=0;", "", Asked::Newest),
        (OBJECT, "?resourceVersion=0", "", any("")),
        (OBJECT, "?&resourceVersion=0", "accept: application/json\n", any("")),
        (OBJECT, "?resourceVersion=0", "Accept: application/json, */*\n", any("")),
        (OBJECT, "?resourceVersion=0", "accept: application/vnd.kubernetes.protobuf\n", Asked::Other),
        (OBJECT, "?resourceVersion=0", "accept: application/json;as=Table;v=v1;g=meta.k8s.io\n", Asked::Other),
        (OBJECT, "?resourceVersion=0&pretty=true", "", Asked::Other),
        (OBJECT, "?resourceVersion=0&labelSelector=a", "", Asked::Other),
        (LIST, "", "", Asked::Newest),
        (LIST, "?resourceVersion=0", "", any("")),
        (LIST, "?resourceVersion=0&resourceVersionMatch=NotOlderThan&limit=500", "", any("")),
        (LIST, "?resourceVersion=0&resourceVersionMatch=Exact", "", Asked::Other),
        (LIST, "?resourceVersion=0&labelSelector=a%3Db", "", any("a=b")),
        (LIST, "?resourceVersion=0&labelSelector=a&labelSelector=b", "", Asked::Other),
        (LIST, "?resourceVersion=0&fieldSelector=metadata.name%3Db", "", Asked::Other),
        (LIST, "?resourceVersion=0&continue=x", "", Asked::Other),
    ] {
        let found = asked(&format!("{path}{query}"), headers, path == LIST);
        assert_eq!(found, asked_for, "{path}{query} {headers}");
    }
}

#[test]
fn a_list_has_the_format_of_the_api_server() {
    let objects: [Arc<str>; 2] = [r#"{"a":1}"#.into(), r#"{"b":2}"#.into()];
    let answer = |objects: &[Arc<str>], most| list("v1", "ConfigMap", 12, objects.iter().map(Some), most);
    let read = |bytes: Bytes| serde_json::from_slice::<serde_json::Value>(&bytes).expect("JSON");
    let head = serde_json::json!({"resourceVersion": "12"});
    let expected =
        |items| serde_json::json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": head, "items": items});
    assert_eq!(read(answer(&[], 1000).expect("small")), expected(serde_json::json!([])));
    assert_eq!(read(answer(&objects, 1000).expect("small")), expected(serde_json::json!([{"a": 1}, {"b": 2}])));
    assert_eq!(answer(&objects, 100), None, "too large");
    assert_eq!(list("v1", "ConfigMap", 12, [Some(&objects[0]), None].into_iter(), 1000), None, "one is not there");
}
