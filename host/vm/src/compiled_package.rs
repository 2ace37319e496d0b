//! Packages ready to run: compiled code and base image.
//!
//! Compiled code is a cache on disk (`compiled_code_file`), keyed by the package's SHA-256 and a fingerprint of the
//! engine. So a host never loads code of another version or of other compiler settings. Code stays loaded while an
//! instance lives and a little longer; suspended controllers hold none.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wasmop_core::limits::problem::how_to_raise;
use wasmop_core::startup::Startup;
use wasmop_core::step::{StepFailure, StepInput};
use wasmop_package::manifest::{Limits, Manifest};
use wasmop_package::{Package, PackageError, Tier};
use wasmop_snapshot::disk::{Disk, read_ahead};
use wasmop_snapshot::format::{SnapshotMeta, runs_with_gaps};
use wasmop_snapshot::image::ImageError;
use wasmop_snapshot::{BaseImage, PAGE, READ_GAP, StateDir};
use wasmtime::component::Component;

use crate::address_space::AddressSpaceError;
use crate::compiled_code_file::{CodeFile, CodeFileError};
use crate::engine::Engine;
use crate::guest::{Guest, GuestExports, InstantiateError, LoadError, MIN_INIT_CPU};
use crate::page_map;
use crate::step_input::{FIRST_MONOTONIC_NS, step_input};
use crate::wasi::WasiGrant;

/// Most bytes of a package's compiled code, which is mapped from the state directory while an instance lives.
const MAX_CODE_BYTES: u64 = 1 << 30;

/// How long code stays loaded after its last instance was suspended. Loading takes about 0.3 ms.
pub const CODE_LINGERS: Duration = Duration::from_secs(10);

/// A package that is installed on this host.
pub struct InstalledPackage {
    /// Its manifest, with the limits that apply and without the text of CRDs.
    pub manifest: Manifest,
    /// SHA-256 of the package.
    pub digest: [u8; 32],
    engine: Engine,
    tier: Tier,
    /// Full tier only.
    image: Option<Arc<BaseImage>>,
    code_file: CodeFile,
    code_bytes: u64,
    /// Bytes that each instance holds besides memory and tables.
    fixed_bytes: u64,
    /// The package itself, in case the code has to be compiled again.
    package_path: PathBuf,
    code: Mutex<LoadedCode>,
}

#[derive(Default)]
struct LoadedCode {
    /// `None`: not loaded.
    exports: Option<Arc<GuestExports>>,
    last_used: Option<Instant>,
    /// This process has authenticated the file.
    checked: bool,
    /// Byte ranges of the file that were touched when the code was last loaded.
    touched: Vec<Range<u64>>,
}

/// Why a package cannot be installed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum InstallError {
    #[error("compiling {name}: {message}")]
    Compile { name: String, message: String },
    #[error("{name}: {source}")]
    NotExecutable { name: String, source: CodeFileError },
    #[error(
        "{name} failed to initialise: {cause}: {reason}\n{detail}\nhelp: this is code that runs before main: global initialisers and init functions"
    )]
    Init { name: String, cause: &'static str, reason: String, detail: String },
    #[error("{name}: {source}")]
    LoadedCode { name: String, source: PackageError },
    #[error(
        "the compiled code of {name} takes {bytes} bytes, more than the limit of {MAX_CODE_BYTES}\n\
         help: build it with less code: optimise for size, and remove dependencies; `wasmop inspect` shows its parts"
    )]
    CodeSize { name: String, bytes: u64 },
    #[error(
        "{name} was not ready after {} s, in which it had the CPU for {} s: compiling its code or its initialisation takes too long\n\
         help: give the host more CPU, or split up the package's largest functions, which are often generated: compilers slow down with the size of a function", .after.as_secs(), .had.as_secs()
    )]
    TooSlow { name: String, after: Duration, had: Duration },
    #[error("{name}: {source}")]
    AddressSpace { name: String, source: AddressSpaceError },
    #[error(
        "{name} starts with {needs} bytes of memory, tables and globals, more than the {limit} that it may have\nhelp: {help}"
    )]
    MemoryCap { name: String, needs: u64, limit: u64, help: String },
    #[error("{name}: {source}")]
    Load { name: String, source: LoadError },
    #[error("{name}: {source}")]
    Instantiate { name: String, source: InstantiateError },
    #[error("storing {name} in the state directory: {source}")]
    Io { name: String, source: io::Error },
}

impl InstallError {
    /// Whether the cause affects other packages too.
    pub fn concerns_all(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match self {
            // A smaller package may fit.
            InstallError::Io { source, .. } => !matches!(source.kind(), FileTooLarge | QuotaExceeded | StorageFull),
            _ => false,
        }
    }
}

impl InstalledPackage {
    /// Compiles `package` and makes its base image, unless an earlier host has done so. `cap` bounds its limits.
    ///
    /// # Errors
    /// See [`InstallError`].
    pub fn install(
        engine: &Engine,
        state: &StateDir,
        package: &Package,
        cap: &Limits,
    ) -> Result<InstalledPackage, InstallError> {
        let name = package.manifest.name.clone();
        let limits = package.manifest.limits.capped(cap);
        let needs = package.footprint().bytes();
        if needs > limits.memory_bytes {
            let help = how_to_raise("memory", &limits, cap).unwrap_or_default();
            return Err(InstallError::MemoryCap { name, needs, limit: limits.memory_bytes, help });
        }
        let io_error = |source| InstallError::Io { name: name.clone(), source };
        let digest_hex = package.digest_hex();
        let code_path = state.code_dir().join(format!("{digest_hex}-{:016x}.cwasm", fingerprint(engine)));
        let package_path = state.code_dir().join(format!("{digest_hex}.wasm"));
        if !fs::read(&package_path).is_ok_and(|there| there == package.bytes()) {
            Disk::default().replace(&package_path, package.bytes()).map_err(io_error)?;
        }
        let code_file = CodeFile::new(code_path, state.code_key().clone());
        let component = load_or_compile(engine, &code_file, package)?;
        let load_error = |source| InstallError::Load { name: name.clone(), source };
        let tier = package.tier();
        let fixed_bytes = package.footprint().fixed;
        let exports = GuestExports::new(engine, &component, tier).map_err(load_error)?;
        let exports = Arc::new(exports.with_fixed_bytes(fixed_bytes));
        let image_path = state.image_path(&digest_hex);
        let image = match tier {
            Tier::Full => Some(Arc::new(package_image(state.disk(), &image_path, engine, &exports, package, &limits)?)),
            Tier::Soft => None,
        };
        let code =
            LoadedCode { exports: Some(exports), last_used: Some(Instant::now()), checked: true, touched: Vec::new() };
        // Only `wasmop inspect` needs the text of CRDs.
        let manifest = Manifest { crds: Vec::new(), limits, ..package.manifest.clone() };
        let code_bytes = fs::metadata(code_file.path()).map_or(0, |file| file.len());
        Ok(InstalledPackage {
            manifest,
            digest: package.digest,
            engine: engine.clone(),
            tier,
            image,
            code_file,
            code_bytes,
            fixed_bytes,
            package_path,
            code: Mutex::new(code),
        })
    }

    /// The package's tier.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The base image. Packages of the soft tier have none.
    pub fn image(&self) -> Option<&Arc<BaseImage>> {
        self.image.as_ref()
    }

    /// The monotonic clock of a fresh instance, nanoseconds.
    pub fn first_monotonic_ns(&self) -> u64 {
        self.image.as_ref().map_or(FIRST_MONOTONIC_NS, |image| image.header.monotonic_ns)
    }

    /// The engine that compiled it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The limits that apply to its instances.
    pub fn limits(&self) -> &Limits {
        &self.manifest.limits
    }

    /// Loads the compiled code, if it is not loaded. Compiles the package again if the code is missing or damaged.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(crate) fn exports(&self) -> Result<Arc<GuestExports>, LoadError> {
        let mut code = self.code.lock();
        code.last_used = Some(Instant::now());
        if let Some(exports) = &code.exports {
            return Ok(exports.clone());
        }
        if let Ok(file) = File::open(self.code_file.path()) {
            read_ahead(&file, &code.touched);
        }
        let component = match self.code_file.load(&self.engine, code.checked) {
            Some(component) => component,
            None => self.compile_again()?,
        };
        code.checked = true;
        let exports = GuestExports::new(&self.engine, &component, self.tier)?.with_fixed_bytes(self.fixed_bytes);
        let exports = Arc::new(exports);
        code.exports = Some(exports.clone());
        Ok(exports)
    }

    /// Compiles the package from its copy in the state directory.
    fn compile_again(&self) -> Result<Component, LoadError> {
        let incompatible = |e: &dyn std::fmt::Display| LoadError::Incompatible(e.to_string());
        let path = &self.package_path;
        let bytes = fs::read(path).map_err(|e| incompatible(&format!("{}: {e}", path.display())))?;
        let package = Package::parse(bytes).map_err(|e| incompatible(&e))?;
        if package.digest != self.digest {
            return Err(incompatible(&format!(
                "{} is not the package that was installed\nhelp: restart the host, which writes it again",
                path.display()
            )));
        }
        compile(&self.engine, &self.code_file, &package).map_err(|e| incompatible(&e))
    }

    /// Unloads the code if no instance has used it for `linger`. Returns when to call again; `None` if no code is loaded.
    pub fn drop_idle_code(&self, linger: Duration) -> Option<Duration> {
        let mut code = self.code.lock();
        let exports = code.exports.as_ref()?;
        let idle = code.last_used.map_or(Duration::MAX, |t| t.elapsed());
        if Arc::strong_count(exports) > 1 {
            return Some(linger);
        }
        if idle < linger {
            return Some(linger - idle);
        }
        let touched = page_map::touched(exports.code_range()).unwrap_or_default();
        let bytes = |page: u32| u64::from(page) * PAGE as u64;
        let runs = runs_with_gaps(touched, READ_GAP);
        code.touched = runs.iter().map(|r| bytes(r.page)..bytes(r.page + r.count)).collect();
        code.exports = None;
        None
    }

    /// Bytes of the compiled code on disk.
    pub fn code_bytes(&self) -> u64 {
        self.code_bytes
    }

    /// Bytes of the compiled code that the next load prefetches.
    pub fn code_ahead_bytes(&self) -> u64 {
        let code = self.code.lock();
        code.touched.iter().map(|r| r.end - r.start).sum()
    }
}

/// Opens the base image of a package. If there is none, runs the package's initialisation and makes one.
fn package_image(
    disk: &Disk,
    path: &Path,
    engine: &Engine,
    exports: &GuestExports,
    package: &Package,
    limits: &Limits,
) -> Result<BaseImage, InstallError> {
    let name = &package.manifest.name;
    match BaseImage::open(disk, path) {
        Ok(image) if image.header.check_digest(&package.digest).is_ok() => return Ok(image),
        Ok(_) => {
            tracing::warn!(package = %name, path = %path.display(), "the base image is of another package; making a new one")
        }
        Err(ImageError::Io(e)) if e.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(package = %name, path = %path.display(), %error, "the base image is unusable; making a new one")
        }
    }
    let io_error = |source| InstallError::Io { name: name.clone(), source };
    let (mut guest, input) = initialise(engine, exports, package, limits)?;
    let globals = guest.globals().map_err(|source| InstallError::Instantiate { name: name.clone(), source })?;
    let (memory, store) = guest.memory();
    let bytes = memory.bytes(store);
    let meta = SnapshotMeta {
        digest: package.digest,
        wall_ns: input.now,
        monotonic_ns: input.monotonic,
        host_state: Vec::new(),
    };
    let size = bytes.len() as u64;
    disk.replace_with(path, |unfinished| {
        BaseImage::write(disk, unfinished, &meta, size, globals, 0, |n, page| {
            page.copy_from_slice(&bytes[n as usize * page.len()..][..page.len()]);
            Ok(true)
        })
    })
    .map_err(io_error)
}

/// Makes an instance that has run its initialisation and nothing else. Returns it with the input that it ran with.
///
/// # Errors
/// If the instance cannot be made, or its initialisation fails.
pub(crate) fn initialise(
    engine: &Engine,
    exports: &GuestExports,
    package: &Package,
    limits: &Limits,
) -> Result<(Guest, StepInput), InstallError> {
    let name = &package.manifest.name;
    let init_limits = Limits { cpu_per_step_ns: limits.cpu_per_step_ns.max(MIN_INIT_CPU.as_nanos() as u64), ..*limits };
    let failed = |source| InstallError::Instantiate { name: name.clone(), source };
    let (mut guest, _) =
        Guest::instantiate(engine, exports, &init_limits, 0, None, None, (&WasiGrant::default(), &Startup::default()))
            .map_err(failed)?;
    let image = package.image();
    let (memory, store) = guest.memory();
    for (offset, data) in image.iter().flat_map(|image| image.runs()) {
        let outside = |error: io::Error| failed(InstantiateError::Wasm(format!("its memory image: {error}")));
        memory.write(store, offset as usize, data).map_err(outside)?;
    }
    let input = step_input(FIRST_MONOTONIC_NS, Vec::new());
    match guest.init(&input) {
        Ok(output) => {
            wasmop_core::step::emit_logs(&name.as_str().into(), &output.logs);
            Ok((guest, input))
        }
        Err(StepFailure { cause, reason, detail, logs, .. }) => {
            wasmop_core::step::emit_logs(&name.as_str().into(), &wasmop_core::crash_log::gather(logs));
            Err(InstallError::Init { name: name.clone(), cause: cause.as_str(), reason, detail })
        }
    }
}

/// Identifies version and settings of the compiler.
fn fingerprint(engine: &Engine) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    engine.wasmtime().precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

fn check_code_size(name: &str, bytes: u64) -> Result<(), InstallError> {
    if bytes > MAX_CODE_BYTES { Err(InstallError::CodeSize { name: name.into(), bytes }) } else { Ok(()) }
}

fn compile(engine: &Engine, code_file: &CodeFile, package: &Package) -> Result<Component, InstallError> {
    let name = &package.manifest.name;
    let started = Instant::now();
    package.check_code().map_err(|source| InstallError::LoadedCode { name: name.clone(), source })?;
    tracing::info!(package = %name, wasm_bytes = package.component().len(), "compiling");
    let code = engine
        .wasmtime()
        .precompile_component(package.component())
        .map_err(|e| InstallError::Compile { name: name.clone(), message: format!("{e:#}") })?;
    check_code_size(name, code.len() as u64)?;
    tracing::info!(package = %name, bytes = code.len(), took_ms = started.elapsed().as_millis() as u64, "compiled");
    code_file.write(engine, &code).map_err(|error| match error {
        CodeFileError::Io(source) => InstallError::Io { name: name.clone(), source },
        source @ CodeFileError::NotExecutable(_) => InstallError::NotExecutable { name: name.clone(), source },
    })
}

fn load_or_compile(engine: &Engine, code_file: &CodeFile, package: &Package) -> Result<Component, InstallError> {
    match code_file.load(engine, false) {
        Some(component) => Ok(component),
        None => compile(engine, code_file, package),
    }
}

#[cfg(test)]
mod tests;
