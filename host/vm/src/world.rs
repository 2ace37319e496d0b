//! The world of guests (`wit/`), as wasmtime generates it.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "wasmop:controller/controller",
    // So that what goes past a limit ends the step instead of getting lost.
    imports: { default: trappable },
});
