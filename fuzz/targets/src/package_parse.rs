//! Package files: sections, manifest, image, world and structure.

use wasmop_package::{Package, inspect, with_manifest};

pub fn target(data: &[u8]) {
    let name = Package::name_in(data);
    let Ok(package) = Package::parse(data) else {
        assert!(inspect(data).is_err());
        return;
    };
    assert_eq!(name.as_deref(), Some(&*package.manifest.name));
    assert!(data.starts_with(package.component()));
    if let Some(image) = package.image() {
        assert!(image.size <= package.footprint().memory);
    }
    let _ = package.check_code();
    let text = inspect(data).expect("a parsed package can be inspected").render();
    assert!(text.starts_with("name "));
    let replaced = with_manifest(data, &package.manifest).expect("a parsed manifest can be written");
    let replaced = Package::parse(replaced).expect("replacing the manifest keeps the package valid");
    assert_eq!(replaced.code_digest(), package.code_digest());
    assert_eq!(replaced.manifest, package.manifest);
}
