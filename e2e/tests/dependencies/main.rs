//! Projects with dependencies and options that `wasmop build` has to handle: its errors, and that the remedies work.
//!
//! No row needs a cluster, so these are ordinary tests. They need the registries of the crates and modules.

mod project;

use project::Project;

/// The error about a feature of kube that a controller cannot use.
fn without(feature: &str, why: &str, more: &str) -> String {
    format!(
        "error: the crate `kube-client` V (web → kube → kube-client) does not build for WebAssembly: {why}\n\
         help: write `kube = {{ version = \"5.0\", default-features = false, features = [\"client\", \"derive\", \"runtime\"] }}` in Cargo.toml{more}\n"
    )
    .replace("FEATURE", feature)
}

#[test]
fn unsupported_features_of_kube_are_named_before_compilation() {
    let project = Project::rust();
    for (feature, why, more) in [
        (
            "openssl-tls",
            "its feature `openssl-tls` links OpenSSL, a C library, and the host speaks TLS for controllers",
            "",
        ),
        (
            "ws",
            "its feature `ws` (exec, attach, port-forward) needs sockets, and a controller has none",
            ", and do without exec, attach and port-forward",
        ),
        (
            "oauth",
            "its features for logins and proxies (`oauth`, `proxy`, `socks5`, `http-proxy`) need sockets, and the host connects and logs in for controllers",
            "",
        ),
    ] {
        project.edit("Cargo.toml", "\"derive\", \"runtime\"]", &format!("\"derive\", \"runtime\", \"{feature}\"]"));
        project.fails_with(&[], &without(feature, why, more));
        project.restore("Cargo.toml");
    }
}

#[test]
fn another_major_version_of_kube_is_rejected_with_the_supported_one() {
    let project = Project::rust();
    project.edit("Cargo.toml", "kube = { version = \"5.0\"", "kube = { version = \"4\"");
    project.fails_with(
        &[],
        "error: the crate `kube-client` V (web → kube → kube-client) is of a version that wasmop does not build for WebAssembly; it builds kube-client V\n\
         help: in Cargo.toml write `kube = { version = \"5.0\", default-features = false, features = [\"client\", \"derive\", \"runtime\"] }`\n",
    );
}

#[test]
fn a_crate_that_links_a_c_library_is_named_with_its_dependents() {
    let project = Project::rust();
    project.edit("Cargo.toml", "tracing = \"0.1\"", "tracing = \"0.1\"\nopenssl = \"0.10\"");
    project.fails_with(
        &[],
        "error: the crate `openssl-sys` V (web → openssl → openssl-sys) does not build for WebAssembly: it links OpenSSL, a C library\n\
         help: turn off the feature of `openssl` that brings in OpenSSL (often `native-tls`, `default-tls` or `openssl`), or remove `openssl`; requests to other hosts go through `wasmop::fetch`, for which the host speaks TLS\n",
    );
}

#[test]
fn supported_crates_and_features_build() {
    let project = Project::rust();
    // hostname has no port for wasm, tokio's `full` needs a flag, and the configured rustflags are for the machine's
    // linker.
    project.edit(
        "Cargo.toml",
        "tracing = \"0.1\"",
        "tracing = \"0.1\"\nhostname = \"0.3\"\ntokio = { version = \"1\", features = [\"full\"] }\n\n[features]\noperator = []\n\n[[bin]]\nname = \"web\"\npath = \"src/main.rs\"\nrequired-features = [\"operator\"]\n",
    );
    project.edit(
        "src/main.rs",
        "    let client =",
        "    info!(host = ?hostname::get(), \"started\");\n    let client =",
    );
    project.fails_with(
        &[],
        "error: the binary `web` requires the feature `operator`, which is not active\n\
         help: wasmop build --features operator\n      or write `features = [\"operator\"]` under [build] in wasmop.toml\n",
    );
    let said = project
        .succeeds_with(&["--features", "operator", "--profile", "dev"], &[("RUSTFLAGS", "-C link-arg=-fuse-ld=mold")]);
    assert!(said.contains("left out of the configured rustflags") && said.contains("-fuse-ld=mold"), "{said}");

    // js-sys compiles and calls JavaScript. The last edit does not compile.
    project.edit("Cargo.toml", "hostname = \"0.3\"", "hostname = \"0.3\"\njs-sys = \"0.3\"");
    project.edit("src/main.rs", "host = ?hostname::get()", "at = js_sys::Date::now()");
    project.fails_with(
        &["--features", "operator", "--profile", "dev"],
        "error: the crate `wasm-bindgen` V (web → js-sys → wasm-bindgen) cannot work in a controller: it calls the JavaScript of a browser, and there is none\n\
         help: remove `js-sys`, or turn off its `js`, `wasm-bindgen` or `wasmbind` feature; requests to other hosts go through `wasmop::fetch`, for which the host speaks TLS\n",
    );
    project.edit("src/main.rs", "at = js_sys::Date::now()", "at = no_such_thing()");
    project.fails_with(
        &["--features", "operator", "--profile", "dev"],
        "error: `web` does not compile; the compiler's messages are above\n\
         help: correct them; code for native programs only (sockets, threads, processes) goes under `#[cfg(not(target_family = \"wasm\"))]`\n",
    );
}

#[test]
fn a_go_module_without_wasi_support_is_named_and_the_remedy_works() {
    let project = Project::go();
    project.edit("main.go", "import (", "import (\n\t\"github.com/sirupsen/logrus\"");
    project.edit("main.go", "func main() {", "func main() {\n\tlogrus.Info(\"started\")");
    project.run_go(&["get", "github.com/sirupsen/logrus@v1.9.3"]);
    project.fails_with(
        &[],
        "error: the module `github.com/sirupsen/logrus` V does not build for WebAssembly: versions before 1.9.4 do not know WASI\n\
         help: go get github.com/sirupsen/logrus@v1.9.4 && go mod tidy\n",
    );
    project.run_go(&["get", "github.com/sirupsen/logrus@v1.9.4"]);
    project.run_go(&["mod", "tidy"]);
    project.succeeds_with(&[], &[]);
}

#[test]
fn tags_and_linker_flags_come_from_the_file_the_command_line_and_goflags() {
    let project = Project::go();
    project.write("prod.go", "//go:build prod\n\npackage main\n\nfunc init() { flavour = \"for production\" }\n");
    project.edit(
        "main.go",
        "func main() {",
        "var version, flavour = \"dev\", \"\"\n\nfunc main() {\n\tprintln(version, flavour)",
    );
    let has = |text: &str| project.package().windows(text.len()).any(|window| window == text.as_bytes());

    project.succeeds_with(&[], &[]);
    assert!(!has("for production"));
    project.succeeds_with(&[], &[("GOFLAGS", "-tags=prod '-ldflags=-X main.version=from-goflags'")]);
    assert!(has("for production") && has("from-goflags"));
    project.edit("wasmop.toml", "[build]", "[build]\ntags = [\"prod\"]\nldflags = \"-X main.version=from-the-file\"");
    project.succeeds_with(&[], &[("GOFLAGS", "'-ldflags=-X main.version=from-goflags'")]);
    assert!(has("for production") && has("from-the-file") && !has("from-goflags"));
    project.succeeds_with(&["--tags", "other", "--ldflags", "-X main.version=from-a-flag"], &[]);
    assert!(!has("for production") && has("from-a-flag") && !has("from-the-file"));
}
