//! A host for tests. It implements the world's imports on plain values and gives access to an instance's state.

use wasmop_package::Package;
use wasmop_package::manifest::{Language, Manifest, Sdk, Toolchain};
use wasmtime::component::{Component, ComponentType, Instance, Lift, Linker};
use wasmtime::{Config, Engine, Store};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "built by lifting only")]
pub enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

/// Level, target, message and fields of a log line.
pub type Line = (Level, String, String, String);

/// The values that the guest receives, and a record of its calls.
#[derive(Default)]
pub struct World {
    pub now: u64,
    pub monotonic: u64,
    pub random: u64,
    /// The result of `read`.
    pub payload: Vec<u8>,
    pub logs: Vec<Line>,
    pub parks: Vec<u64>,
    /// NUL-terminated.
    pub arguments: Vec<&'static str>,
    pub environment: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "built by lifting only")]
enum Startup {
    #[component(name = "arguments")]
    Arguments,
    #[component(name = "environment")]
    Environment,
}

impl World {
    fn startup(&self, of: Startup) -> &[&'static str] {
        match of {
            Startup::Arguments => &self.arguments,
            Startup::Environment => &self.environment,
        }
    }
}

pub struct Guest {
    pub store: Store<World>,
    instance: Instance,
}

pub fn manifest() -> Manifest {
    Manifest::new("guest", "0.0.0", Language::Rust, Toolchain::Cargo, Sdk::new("wasmop", "0.1.0"))
}

/// Returns the text of a controller with additional `fields` and a step with `body`.
pub fn controller(fields: &str, body: &str) -> String {
    format!(
        r#"(module {fields} (memory (export "memory") 1)
             (func $step (export "wasmop:controller/guest@0.1.0#step") {body}))"#
    )
}

pub fn package(text: &str) -> Package {
    package_of(&wat::parse_str(text).unwrap())
}

pub fn package_of(core: &[u8]) -> Package {
    Package::parse(wasmop_package::assemble(core, &manifest()).unwrap()).unwrap()
}

/// Instantiates a package without calling any function.
pub fn instantiate(package: &Package, world: World) -> Guest {
    let mut config = Config::new();
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Enable);
    let engine = Engine::new(&config).unwrap();
    let component = Component::new(&engine, package.component()).unwrap();
    let mut linker = Linker::<World>::new(&engine);
    let mut sys = linker.instance("wasmop:controller/sys@0.1.0").unwrap();
    sys.func_wrap("log", |mut store, (level, target, message, fields): (Level, String, String, String)| {
        store.data_mut().logs.push((level, target, message, fields));
        Ok(())
    })
    .unwrap();
    sys.func_wrap("now", |store, ()| Ok((store.data().now,))).unwrap();
    sys.func_wrap("monotonic", |store, ()| Ok((store.data().monotonic,))).unwrap();
    sys.func_wrap("random", |mut store, ()| {
        store.data_mut().random += 1;
        Ok((store.data().random,))
    })
    .unwrap();
    sys.func_wrap("park", |mut store, (timeout,): (u64,)| {
        store.data_mut().parks.push(timeout);
        Ok(())
    })
    .unwrap();
    sys.func_wrap("startup-size", |store, (of,): (Startup,)| {
        let strings = store.data().startup(of);
        Ok(((strings.len() as u64) << 32 | strings.concat().len() as u64,))
    })
    .unwrap();
    sys.func_wrap("startup-bytes", |store, (of, offset): (Startup, u32)| {
        let text = store.data().startup(of).concat();
        let mut bytes = [0; 8];
        let rest = &text.as_bytes()[offset as usize..];
        bytes[..rest.len().min(8)].copy_from_slice(&rest[..rest.len().min(8)]);
        Ok((u64::from_le_bytes(bytes),))
    })
    .unwrap();
    let mut runtime = linker.instance("wasmop:controller/runtime@0.1.0").unwrap();
    runtime.func_wrap("read", |store, ()| Ok((store.data().payload.clone(),))).unwrap();

    let mut store = Store::new(&engine, world);
    store.set_max_component_handles(0);
    let instance = linker.instantiate(&mut store, &component).unwrap();
    Guest { store, instance }
}

impl Guest {
    /// Instantiates a controller and calls `init`.
    pub fn started(text: &str) -> Guest {
        let mut guest = instantiate(&package(text), World::default());
        guest.init().unwrap();
        guest
    }

    fn call<P, R>(&mut self, interface: &str, function: &str, params: P) -> wasmtime::Result<R>
    where
        P: wasmtime::component::ComponentNamedList + wasmtime::component::Lower,
        R: wasmtime::component::ComponentNamedList + Lift + 'static,
    {
        let interface = self.instance.get_export_index(&mut self.store, None, interface).unwrap();
        let function = self.instance.get_export_index(&mut self.store, Some(&interface), function).unwrap();
        let function = self.instance.get_typed_func::<P, R>(&mut self.store, function)?;
        function.call(&mut self.store, params)
    }

    pub fn init(&mut self) -> wasmtime::Result<()> {
        self.call("wasmop:internal/state", "init", ())
    }

    pub fn step(&mut self) -> wasmtime::Result<()> {
        self.call("wasmop:controller/guest@0.1.0", "step", ())
    }

    pub fn globals(&mut self) -> Vec<u64> {
        let (count,): (u32,) = self.call("wasmop:internal/state", "global-count", ()).unwrap();
        (0..count).map(|index| self.global(index).unwrap()).collect()
    }

    pub fn global(&mut self, index: u32) -> wasmtime::Result<u64> {
        self.call::<_, (u64,)>("wasmop:internal/state", "global-get", (index,)).map(|(bits,)| bits)
    }

    pub fn set_global(&mut self, index: u32, bits: u64) -> wasmtime::Result<()> {
        self.call("wasmop:internal/state", "global-set", (index, bits))
    }
}
