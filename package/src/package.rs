//! The package format: a WebAssembly component followed by wasmop's custom sections.
//!
//! ```text
//! ┌──────────────────────────────────────────┐
//! │ component: core modules, wiring, types   │  a valid component by itself; the host compiles it
//! ├──────────────────────────────────────────┤
//! │ custom section "wasmop:memory-image"     │  the initial linear memory (image.rs); full tier
//! │                                          │  only
//! ├──────────────────────────────────────────┤
//! │ custom section "wasmop:manifest"         │  JSON (manifest.rs); can be replaced alone
//! ├──────────────────────────────────────────┤
//! │ further custom sections                  │  of other tools; ignored
//! └──────────────────────────────────────────┘
//! ```

use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use thiserror::Error;
use wasmparser::{BinaryReader, ComponentExportSectionReader, ComponentImportSectionReader};

use crate::function_body::check_body_sizes;
use crate::image::{MemoryImage, MemoryImageError};
use crate::manifest::{Manifest, ManifestError};
use crate::refusal::Refusal;
use crate::section::{self, Section};
use crate::structure::{Footprint, Structure};
use crate::tier::{self, Tier};
use crate::validate::{check_bodies, validate_linked};
use crate::world;

/// The name of the custom section with the manifest.
pub const MANIFEST_SECTION: &str = "wasmop:manifest";
/// The name of the custom section with the memory image.
pub const IMAGE_SECTION: &str = "wasmop:memory-image";

/// Why a file is not a valid package.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the message of each variant is its documentation")]
pub enum PackageError {
    #[error(
        "not a wasmop package: it begins with {found}, which is not WebAssembly\n\
         help: pass the .wasm file that `wasmop build` wrote to target/wasmop/"
    )]
    NotWasm { found: String },
    #[error(
        "this is a core module, not a package\n\
         help: run `wasmop build` in the project; it packages the module"
    )]
    CoreModule,
    #[error(
        "not a wasmop package: WebAssembly of an unknown version or layer ({found})\n\
         help: build it with the `wasmop build` of this release"
    )]
    UnknownVersion { found: String },
    #[error(
        "the package is truncated or damaged: the section at offset {offset} extends past the end of the file\n\
         help: build or copy it again"
    )]
    Truncated { offset: usize },
    #[error(
        "the package is damaged at offset {offset}: {detail}\n\
         help: build or copy it again"
    )]
    Damaged { offset: usize, detail: String },
    #[error(
        "this component has no section `{section}`, so it is not a wasmop package\n\
         help: build a package with `wasmop build`; wasmop cannot run components of other worlds"
    )]
    SectionMissing { section: &'static str },
    #[error("the package has more than one section `{section}`\nhelp: build it again")]
    SectionTwice { section: &'static str },
    #[error("the package's memory image is invalid: {0}\nhelp: build it again with the `wasmop build` of this release")]
    Image(#[from] MemoryImageError),
    #[error(
        "the package's memory image ends at {end}, past the module's initial {memory} bytes of memory\n\
         help: build it again with the `wasmop build` of this release"
    )]
    ImageOutside { end: u64, memory: u64 },
    #[error(
        "the package's code is not what `wasmop build` produces: {detail}\n\
         help: build it again with the `wasmop build` of this release"
    )]
    Structure { detail: String },
    #[error(transparent)]
    Code(Refusal),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(
        "the package imports `{name}`, which is not in wasmop's world\n\
         help: build it with the `wasmop build` of this release"
    )]
    ForeignImport { name: String },
    #[error(
        "the package does not export `{name}`, so it was built for another world\n\
         help: build it with the `wasmop build` of this release"
    )]
    ExportMissing { name: &'static str },
}

/// A checked package. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct Package {
    /// The parsed manifest.
    pub manifest: Manifest,
    /// The SHA-256 digest of the whole file.
    pub digest: [u8; 32],
    bytes: Arc<[u8]>,
    layout: Layout,
    structure: Structure,
}

/// The positions of the parts. Invariant: all ranges are within the bytes, and the image is valid.
#[derive(Clone, Debug)]
struct Layout {
    /// The end of the component, where wasmop's first section begins.
    component_end: usize,
    /// `None` for packages of the soft tier.
    image: Option<Range<usize>>,
    manifest: Range<usize>,
}

impl Package {
    /// Parses and checks a package, except for its function bodies.
    ///
    /// The checks cover the layout, the manifest, the memory image, the imports and exports, and the structure of the
    /// component. [`Package::check_code`] checks the function bodies.
    ///
    /// # Errors
    ///
    /// Fails if the file is not a package that `wasmop build` of a compatible release could have produced.
    pub fn parse(bytes: impl Into<Arc<[u8]>>) -> Result<Package, PackageError> {
        let bytes = bytes.into();
        let layout = Layout::of(&bytes)?;
        let manifest = Manifest::from_section(&bytes[layout.manifest.clone()])?;
        let end_of_image = match &layout.image {
            Some(image) => Some(MemoryImage::parse(&bytes[image.clone()])?.size),
            None if has_state(&bytes[..layout.component_end])? => {
                return Err(PackageError::SectionMissing { section: IMAGE_SECTION });
            }
            None => None,
        };
        check_world(layout.tier(), &bytes[..layout.component_end])?;
        let structure = Structure::check(&bytes[..layout.component_end], layout.tier())
            .map_err(|detail| PackageError::Structure { detail })?;
        let memory = structure.footprint.memory;
        if let Some(end) = end_of_image.filter(|end| *end > memory) {
            return Err(PackageError::ImageOutside { end, memory });
        }
        let digest = Sha256::digest(&bytes).into();
        Ok(Package { manifest, digest, bytes, layout, structure })
    }

    /// Returns the name in the manifest of a file, even if the rest of the file is invalid.
    pub fn name_in(bytes: &[u8]) -> Option<String> {
        let manifest = section::find(bytes, MANIFEST_SECTION)?;
        Some(Manifest::from_section(bytes.get(manifest.content)?).ok()?.name)
    }

    /// Returns the whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks the function bodies, as `wasmop build` does. Call this before compiling the component.
    ///
    /// # Errors
    ///
    /// Fails if a function is too large to compile or changes state that the host cannot save.
    pub fn check_code(&self) -> Result<(), PackageError> {
        let component = self.component();
        for (number, module) in self.structure.modules.iter().enumerate() {
            let module = &component[module.clone()];
            let refusal = match (self.tier(), number == self.structure.main) {
                (Tier::Soft, _) => check_body_sizes(module).err(),
                (Tier::Full, true) => validate_linked(module).err(),
                (Tier::Full, false) => check_bodies(module).err(),
            };
            if let Some(refusal) = refusal {
                return Err(PackageError::Code(refusal));
            }
        }
        Ok(())
    }

    /// Returns what an instance occupies before any of its code runs.
    pub fn footprint(&self) -> Footprint {
        self.structure.footprint
    }

    /// Returns the component without wasmop's sections, which the engine compiles.
    ///
    /// Replacing the manifest does not change it.
    pub fn component(&self) -> &[u8] {
        &self.bytes[..self.layout.component_end]
    }

    /// Returns how completely instances can be suspended.
    pub fn tier(&self) -> Tier {
        self.layout.tier()
    }

    /// Returns the initial linear memory, or `None` in the soft tier. Components of the soft tier initialize their
    /// memory themselves.
    pub fn image(&self) -> Option<MemoryImage<'_>> {
        let image = self.layout.image.clone()?;
        Some(MemoryImage::parse(&self.bytes[image]).expect("the image was checked when the package was parsed"))
    }

    /// Returns the SHA-256 digest of component and image. Snapshots depend on these parts only.
    ///
    /// Unlike [`Package::digest`], it does not change when the manifest is replaced.
    pub fn code_digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((self.layout.component_end as u64).to_le_bytes());
        hash.update(self.component());
        if let Some(image) = &self.layout.image {
            hash.update(&self.bytes[image.clone()]);
        }
        hash.finalize().into()
    }

    /// Returns [`Package::digest`] in hexadecimal.
    pub fn digest_hex(&self) -> String {
        self.digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Replaces the manifest of a package, and nothing else.
///
/// # Errors
///
/// Fails if the manifest is invalid or the layout of `package` is damaged.
pub fn with_manifest(package: &[u8], manifest: &Manifest) -> Result<Vec<u8>, PackageError> {
    let manifest = manifest.to_section()?;
    Layout::of(package)?;
    let mut replaced = package[..section::HEADER].to_vec();
    for section in section::sections(package) {
        let section = section.map_err(|cut| PackageError::Truncated { offset: cut.offset })?;
        if is_named(&section, MANIFEST_SECTION) {
            section::push_custom(&mut replaced, MANIFEST_SECTION, &manifest);
        } else {
            replaced.extend_from_slice(&package[section.whole]);
        }
    }
    Ok(replaced)
}

fn is_named(section: &Section<'_>, name: &str) -> bool {
    section.id == section::CUSTOM && section.name == name
}

impl Layout {
    fn tier(&self) -> Tier {
        if self.image.is_some() { Tier::Full } else { Tier::Soft }
    }

    fn of(bytes: &[u8]) -> Result<Layout, PackageError> {
        check_header(bytes)?;
        let mut component_end = None;
        let mut image = None;
        let mut manifest = None;
        for section in section::sections(bytes) {
            let section = section.map_err(|cut| PackageError::Truncated { offset: cut.offset })?;
            let slot = match section.name {
                IMAGE_SECTION if section.id == section::CUSTOM => (&mut image, IMAGE_SECTION),
                MANIFEST_SECTION if section.id == section::CUSTOM => (&mut manifest, MANIFEST_SECTION),
                _ if section.id != section::CUSTOM && component_end.is_some() => {
                    return Err(PackageError::Damaged {
                        offset: section.whole.start,
                        detail: "code follows wasmop's sections".to_string(),
                    });
                }
                _ => continue,
            };
            component_end.get_or_insert(section.whole.start);
            if slot.0.replace(section.content).is_some() {
                return Err(PackageError::SectionTwice { section: slot.1 });
            }
        }
        let missing = |section| PackageError::SectionMissing { section };
        let manifest = manifest.ok_or(missing(MANIFEST_SECTION))?;
        Ok(Layout { component_end: component_end.unwrap_or(bytes.len()), image, manifest })
    }
}

fn check_header(bytes: &[u8]) -> Result<(), PackageError> {
    if bytes.starts_with(&section::COMPONENT_HEADER) {
        return Ok(());
    }
    if bytes.starts_with(&section::MODULE_HEADER) {
        return Err(PackageError::CoreModule);
    }
    if bytes.starts_with(b"\0asm") {
        if bytes.len() < section::HEADER {
            return Err(PackageError::Truncated { offset: bytes.len() });
        }
        let found = bytes[4..section::HEADER].iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(PackageError::UnknownVersion { found });
    }
    let found = match bytes {
        [] => "nothing (it is empty)".to_string(),
        _ => format!("\"{}\"", bytes[..bytes.len().min(4)].escape_ascii()),
    };
    Err(PackageError::NotWasm { found })
}

/// The imports and exports of a component, by name.
pub(crate) struct Interfaces {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

pub(crate) fn interfaces(component: &[u8]) -> Result<Interfaces, PackageError> {
    let damaged = |error: wasmparser::Error| PackageError::Damaged {
        offset: error.offset(),
        detail: error.message().to_string(),
    };
    let mut found = Interfaces { imports: Vec::new(), exports: Vec::new() };
    for section in section::sections(component) {
        let section = section.map_err(|cut| PackageError::Truncated { offset: cut.offset })?;
        let reader = BinaryReader::new(&component[section.content.clone()], section.content.start);
        match section.id {
            section::IMPORT => {
                for import in ComponentImportSectionReader::new(reader).map_err(damaged)? {
                    found.imports.push(import.map_err(damaged)?.name.name.to_string());
                }
            }
            section::EXPORT => {
                for export in ComponentExportSectionReader::new(reader).map_err(damaged)? {
                    found.exports.push(export.map_err(damaged)?.name.name.to_string());
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn has_state(component: &[u8]) -> Result<bool, PackageError> {
    Ok(interfaces(component)?.exports.iter().any(|name| name == world::STATE))
}

fn check_world(tier: Tier, component: &[u8]) -> Result<(), PackageError> {
    let Interfaces { mut imports, exports } = interfaces(component)?;
    imports.retain(|name| name != world::SYS && name != world::RUNTIME);
    if tier == Tier::Soft {
        imports.retain(|name| !tier::is_provided_wasi(name));
    }
    if let Some(name) = imports.into_iter().next() {
        return Err(PackageError::ForeignImport { name });
    }
    let needed: &[&'static str] = match tier {
        Tier::Full => &[world::GUEST, world::STATE],
        Tier::Soft => &[world::GUEST],
    };
    for &name in needed {
        if !exports.iter().any(|export| export == name) {
            return Err(PackageError::ExportMissing { name });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "package_tests.rs"]
mod tests;
