//! `wasmop init` for projects in the usual layouts, through the program itself. The whole file that it writes is
//! compared, so that a reader of this test sees what a user gets.

#[path = "../sandbox/mod.rs"]
mod sandbox;

use std::fs;

use sandbox::Sandbox;

const MAIN_GO: &str = "package main\n\nfunc main() {}\n";

const CRD: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
                   metadata: {name: websites.web.example.com}\n";

/// Files in the layout of kubebuilder and operator-sdk.
const KUBEBUILDER: [(&str, &str); 11] = [
    ("go.mod", "module example.com/website-operator\n\ngo 1.26\n"),
    ("cmd/main.go", MAIN_GO),
    ("PROJECT", "projectName: website-operator\nlayout: [go.kubebuilder.io/v4]\n"),
    ("config/crd/bases/web.example.com_websites.yaml", CRD),
    ("config/crd/kustomization.yaml", "resources: [bases/web.example.com_websites.yaml]\n"),
    ("config/rbac/role.yaml", include_str!("kubebuilder/role.yaml")),
    ("config/rbac/role_binding.yaml", include_str!("kubebuilder/role_binding.yaml")),
    ("config/rbac/leader_election_role.yaml", include_str!("kubebuilder/leader_election_role.yaml")),
    ("config/rbac/website_editor_role.yaml", include_str!("kubebuilder/editor_role.yaml")),
    ("config/manager/manager.yaml", include_str!("kubebuilder/manager.yaml")),
    ("config/samples/website.yaml", "kind: Website\n"),
];

/// A crate with a Helm chart and a generator of its CustomResourceDefinition.
const CHART: [(&str, &str); 8] = [
    ("Cargo.toml", "[package]\nname = \"controller\"\nversion = \"1.2.3\"\nedition = \"2024\"\n"),
    ("src/main.rs", "fn main() {}\n"),
    ("src/bin/crdgen.rs", "fn main() {}\n"),
    ("charts/shop/Chart.yaml", "name: shop\nversion: 0.1.0\n"),
    ("charts/shop/values.yaml", include_str!("chart/values.yaml")),
    ("charts/shop/templates/_helpers.tpl", "{{- define \"shop.name\" -}}{{ .Chart.Name }}-operator{{- end }}\n"),
    ("charts/shop/templates/rbac.yaml", include_str!("chart/rbac.yaml")),
    ("charts/shop/templates/deployment.yaml", include_str!("chart/deployment.yaml")),
];

fn project(files: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new();
    for (file, text) in files {
        sandbox.write(&format!("p/{file}"), text.as_bytes());
    }
    sandbox
}

/// Puts a `cargo` on the PATH that prints a CustomResourceDefinition.
fn fake_cargo(sandbox: &Sandbox, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let cargo = sandbox.write("path/cargo", format!("#!/bin/sh\n{script}\n").as_bytes());
    fs::set_permissions(cargo, fs::Permissions::from_mode(0o755)).expect("is ours");
}

#[test]
fn a_kubebuilder_project() {
    let sandbox = project(&KUBEBUILDER);
    let (stdout, stderr) = sandbox.wasmop(&["init", "p"]).succeeds();
    assert_eq!(stdout, "");
    assert_eq!(
        fs::read_to_string(sandbox.path("p/wasmop.toml")).expect("is there"),
        include_str!("kubebuilder/wasmop.toml")
    );
    for needle in ["Wrote p/wasmop.toml", "projectName in PROJECT", "2 rules", "wasmop build p"] {
        assert!(stderr.contains(needle), "{needle:?} is missing in\n{stderr}");
    }
}

#[test]
fn markers_count_where_there_is_no_role() {
    let files: Vec<_> = KUBEBUILDER.into_iter().filter(|(file, _)| !file.starts_with("config/rbac")).collect();
    let sandbox = project(&files);
    let marker = "//+kubebuilder:rbac:groups=web.example.com,resources=websites,verbs=get;list;watch\n";
    sandbox.write("p/internal/controller/website.go", format!("package controller\n\n{marker}").as_bytes());
    sandbox.write("p/vendor/other/x.go", marker.replace("websites", "others").as_bytes());
    let (stdout, _) = sandbox.wasmop(&["init", "p", "--dry-run"]).succeeds();
    assert!(stdout.contains("resources = [\"websites\"]\nverbs = [\"get\", \"list\", \"watch\"]"), "{stdout}");
    assert_eq!(stdout.matches("[[permissions]]").count(), 1, "{stdout}");
}

#[test]
fn a_crate_with_a_chart_and_a_generator() {
    let sandbox = project(&CHART);
    fake_cargo(&sandbox, "echo 'kind: CustomResourceDefinition'");
    sandbox.wasmop(&["init", "p"]).succeeds();
    assert_eq!(fs::read_to_string(sandbox.path("p/wasmop.toml")).expect("is there"), include_str!("chart/wasmop.toml"));
}

#[test]
fn a_generator_that_fails_is_a_comment() {
    let sandbox = project(&CHART);
    fake_cargo(&sandbox, "echo broken >&2; exit 1");
    let (stdout, _) = sandbox.wasmop(&["init", "p", "--dry-run"]).succeeds();
    assert!(stdout.contains("# crds-command = [\"cargo\", \"run\", \"--quiet\", \"--bin\", \"crdgen\"]"), "{stdout}");
    assert!(stdout.contains("did not work"), "{stdout}");
}

#[test]
fn a_member_of_a_workspace_gets_its_own_file() {
    let sandbox = project(&[
        ("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\n"),
        ("crates/tool/Cargo.toml", "[package]\nname = \"tool\"\n"),
        ("crates/tool/src/main.rs", ""),
        ("crates/operator/Cargo.toml", "[package]\nname = \"shop-operator\"\n[dependencies]\nkube = \"3\"\n"),
        ("crates/operator/src/main.rs", ""),
        ("deploy/crd.yaml", CRD),
    ]);
    let (_, stderr) = sandbox.wasmop(&["init", "p"]).succeeds();
    assert!(stderr.contains("wasmop build p/crates/operator"), "{stderr}");
    let text = fs::read_to_string(sandbox.path("p/crates/operator/wasmop.toml")).expect("is there");
    assert!(text.contains("crds = [\"../../deploy/crd.yaml\"]"), "{text}");
    let (again, _) = sandbox.wasmop(&["init", "p/crates/operator", "--dry-run"]).succeeds();
    assert_eq!(again, text);
}
