//! Turns requests of controllers and of the host into requests to the API server and external hosts, and what comes
//! back into replies and news.
//!
//! ```text
//! watch           upstream watches, their journals, and news for the host's loop
//! api_requests    requests of guests to the API server     external_hosts  and to others
//! caller          as whom a request is made                event_recorder  Kubernetes Events
//! election        the election's clock, Leases and files   connect         which cluster, and with what credentials
//! client          the HTTP client                          connections     how many there are, and for whom
//! timeouts        of all of them                           request_counts  for metrics       error_chain
//! ```

#![deny(unsafe_code)]

pub mod api_requests;
pub mod caller;
pub mod client;
pub mod connect;
pub mod connections;
pub mod election;
pub mod environment;
pub mod error_chain;
pub mod event_recorder;
pub mod external_hosts;
pub mod request_counts;
pub mod timeouts;
pub mod watch;
