//! The attribute macro of the `wasmop` crate.

#![warn(missing_docs)]

use proc_macro::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{ItemFn, parse_macro_input};

/// Makes an `async fn main` the entry point of the program, natively and in a wasmop host.
///
/// Natively `main` runs on tokio's multi-threaded runtime, as with `#[tokio::main]`. On wasm the host's first step
/// starts it, and later steps poll it when it can make progress. `wasmop::init_logging` runs first in both cases.
///
/// ```ignore
/// #[wasmop::main]
/// async fn main() -> anyhow::Result<()> {
///     let client = kube::Client::try_default().await?;
///     // …
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    match expand(&arguments.into(), &function) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.into_compile_error().into(),
    }
}

fn expand(arguments: &proc_macro2::TokenStream, function: &ItemFn) -> syn::Result<proc_macro2::TokenStream> {
    let signature = &function.sig;
    if !arguments.is_empty() {
        return Err(syn::Error::new(arguments.span(), "`#[wasmop::main]` takes no arguments"));
    }
    if signature.asyncness.is_none() {
        return Err(syn::Error::new(signature.fn_token.span(), "`#[wasmop::main]` requires an `async fn`"));
    }
    if !signature.inputs.is_empty() || !signature.generics.params.is_empty() {
        return Err(syn::Error::new(signature.span(), "the function `main` takes no parameters"));
    }
    let ItemFn { attrs, vis, block, sig } = function;
    let name = &sig.ident;
    let output = &sig.output;
    // The body appears twice, but the compiler sees only one of the two functions.
    Ok(quote! {
        #[cfg(not(target_family = "wasm"))]
        #(#attrs)*
        #vis fn #name() #output {
            async fn main() #output #block
            ::wasmop::__private::run(::core::env!("CARGO_PKG_NAME"), main)
        }

        #[cfg(target_family = "wasm")]
        #(#attrs)*
        #vis fn #name() {
            async fn main() #output #block
            ::wasmop::__private::run(main)
        }
    })
}
