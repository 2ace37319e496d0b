//! The bundled program under the names of its components.

use wasmop_testbed::controlplane::{Binaries, ControlPlane, Lifetime, find};

fn kubectl(binaries: &Binaries, plane: &ControlPlane, args: &[&str]) -> Result<String, String> {
    let output = binaries.kubectl().arg("--kubeconfig").arg(&plane.kubeconfig).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn links_to_the_bundled_program_serve_as_kubebuilder_assets() {
    let Binaries::Bundled(program) = find(&mut |line| eprintln!("{line}")).unwrap() else {
        eprintln!("not the bundled control plane: nothing to test");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let assets = dir.path().join("assets");
    Binaries::Bundled(program).link_into(&assets).unwrap();
    let separate = Binaries::in_directory(&assets).unwrap();

    let plane = ControlPlane::start(&separate, &dir.path().join("run"), Lifetime::Owned).unwrap();
    assert_eq!(plane.process_ids().len(), 2);
    kubectl(&separate, &plane, &["create", "configmap", "a", "--from-literal=key=value"]).unwrap();
    assert_eq!(kubectl(&separate, &plane, &["get", "configmap", "a", "-o", "jsonpath={.data.key}"]).unwrap(), "value");
    // The key pair signs and verifies: the API server accepts a ServiceAccount's token, which has no rights.
    kubectl(&separate, &plane, &["create", "serviceaccount", "nobody"]).unwrap();
    let token = kubectl(&separate, &plane, &["create", "token", "nobody"]).unwrap();
    let refused = kubectl(&separate, &plane, &["get", "secrets", "--token", token.trim()]);
    assert!(refused.as_ref().is_err_and(|error| error.contains("system:serviceaccount:default:nobody")), "{refused:?}");
    plane.stop().unwrap();
}
