//! Behaviour on a real API server.
//!
//! ```text
//! world       a control plane with the Probe CRD, a fault proxy before it, a host that runs all guests
//! wat_guest   guests in WebAssembly text, for what no compiler would make
//! patched_package  packages changed by hand, into what no build makes
//! guests      the conformance guests, built with `wasmop build`
//! scene       one guest's namespace: create a Probe, wait for what becomes of it, read the host's log
//! scenarios   the behaviours, each a function of a scene
//! table       behaviours x guests, as marks
//! audit       the API server's own record of what reached it
//! fake_api    answers to a guest's requests, without a server
//! fake_cluster  an API server that the test plays, for what a real one is too slow for
//! browser     a page as a browser has it
//! page_widths the host's page in windows of several widths
//! child_host  a host as a process of its own
//! inner_host  a host in this process, and what it says over HTTP
//! freezing_proxy  a TCP proxy that hangs
//! tls_identity  certificates of an authority of the test's own
//! wall_clock  a host whose wall clock can be set
//! part        a part of the test suite as a program
//! torture     a host killed at random moments under load, again and again
//! rows        figures, as a table or as JSON
//! ```

#![deny(unsafe_code)]

pub mod audit;
pub mod browser;
pub mod child_host;
pub mod fake_api;
pub mod fake_cluster;
pub mod fault_proxy;
pub mod freezing_proxy;
pub mod guests;
pub mod inner_host;
pub mod object;
pub mod page_widths;
pub mod part;
pub mod patched_package;
pub mod probe;
pub mod process;
pub mod rows;
pub mod scenarios;
pub mod scene;
pub mod table;
pub mod tls_identity;
pub mod torture;
pub mod wall_clock;
pub mod wat_guest;
pub mod world;
