//! Bindings of the world that guests import and export, generated from `wit/`.

#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "wasmop:controller/controller",
    // A host function that returns an error ends the step, so that no limit is exceeded unnoticed.
    imports: { default: trappable },
});
