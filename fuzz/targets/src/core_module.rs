//! Core modules: validates, instruments and packages them. The result must be a valid package.

use wasmop_package::manifest::{Language, Manifest, Sdk, Toolchain};
use wasmop_package::{AssembleError, Package, assemble};

pub fn target(data: &[u8]) {
    let manifest = Manifest::new("fuzz", "0.1.0", Language::Other, Toolchain::Component, Sdk::new("none", "0.0.0"));
    match assemble(data, &manifest) {
        Ok(bytes) => {
            let package = Package::parse(bytes).expect("an assembled package can be parsed");
            package.check_code().expect("an assembled package has valid code");
        }
        Err(AssembleError::Encode { detail }) => panic!("the validator accepted what the encoder refuses: {detail}"),
        Err(_) => {}
    }
}
