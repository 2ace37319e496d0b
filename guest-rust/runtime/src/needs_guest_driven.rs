//! Functions that only a guest-driven controller has.
//!
//! In a program that does not know wasmop, `Controller` is a controller of the host. Its methods that the host cannot
//! provide call one of these imports. The linker removes an import that the program does not use. So if one is in the
//! module, `wasmop build` builds the program again, with a guest-driven `Controller`, and names the method.

macro_rules! imports {
    ($($name:ident = $method:literal),* $(,)?) => {
        #[link(wasm_import_module = "wasmop_needs_guest_driven")]
        unsafe extern "C" {
            $(
                #[doc = concat!("`", $method, "`.")]
                #[link_name = $method]
                pub safe fn $name() -> !;
            )*
        }
    };
}

imports! {
    for_stream = "Controller::for_stream",
    for_shared_stream = "Controller::for_shared_stream",
    owns_stream = "Controller::owns_stream",
    owns_shared_stream = "Controller::owns_shared_stream",
    watches_stream = "Controller::watches_stream",
    watches_shared_stream = "Controller::watches_shared_stream",
    reconcile_all_on = "Controller::reconcile_all_on",
    reconcile_on = "Controller::reconcile_on",
    store = "Controller::store",
}
