//! Shared code of the end-to-end tests. Each part of the suite is a program in `tests/`; see `README.md`.
//!
//! ```text
//! the layout of a part
//!   part              a part as a program: rows run, a table and an exit code come out
//!   table             rows and columns of results, as marks and counts
//! what a part runs on
//!   test_cluster      a control plane and an administrator's client
//!   environment       a cluster with a fault proxy and one host that runs all guests
//!   guest_fixture     one guest in the environment: its Probes and its log records
//!   probe             the custom resource that requests a behaviour from a guest
//!   probe_object      one Probe, as its user changes it
//!   in_process_host   a host inside the test process, and its HTTP endpoints
//!   child_host        a host that is a process of its own
//!   fake_api          responses to a guest's requests without a server
//!   fake_cluster      an API server that the test plays
//! the guests
//!   guests            the conformance guests, built with `wasmop build`
//!   wat_guest         guests in WebAssembly text that no compiler would produce
//!   patched_package   packages that no build produces
//! faults and observers
//!   fault_proxy       an HTTP proxy that delays, rejects and corrupts
//!   freezing_proxy    a TCP proxy that stops passing bytes
//!   wall_clock        a wall clock that a test sets
//!   tls_identity      certificates of the test's own authority
//!   web_server        a host on loopback that records its requests
//!   audit             the API server's audit log
//!   process           memory and descriptors of a process
//!   browser           a page after its scripts have run
//!   page_widths       the host's page in windows of several widths
//! the scenarios
//!   scenarios         the rows of the conformance and the soft table
//!   torture           a host under load that is killed, or whose network fails
//!   operators         an operator natively and as a package, and what each did to its cluster
//!   rows              figures of a benchmark, as a table or as JSON
//! ```

// Tests are its only users.
#![allow(missing_docs)]

pub mod audit;
pub mod browser;
pub mod child_host;
pub mod environment;
pub mod fake_api;
pub mod fake_cluster;
pub mod fault_proxy;
pub mod freezing_proxy;
pub mod guest_fixture;
pub mod guests;
pub mod in_process_host;
pub mod operators;
pub mod page_widths;
pub mod part;
pub mod patched_package;
pub mod probe;
pub mod probe_object;
pub mod process;
pub mod rows;
pub mod scenarios;
pub mod table;
pub mod test_cluster;
pub mod tls_identity;
pub mod torture;
pub mod wall_clock;
pub mod wat_guest;
pub mod web_server;
