//! Turns requests of controllers and of the host into requests to the API server and external hosts, and their
//! responses into replies and watch events.
//!
//! ```text
//! watch           upstream watches and their journals      environment     the watches as the control loop sees them
//! api_requests    requests of guests to the API server     external_hosts  requests of guests to other hosts
//! caller          user agent and impersonation             event_recorder  Kubernetes Events
//! election        Leases, their clock and local state      connect         kubeconfigs and service accounts
//! client          the HTTP client                          connections     limits of concurrent requests
//! timeouts        the timeouts of all requests             request_counts  counts for metrics
//! error_chain     an error and its causes as text
//! ```

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
pub mod guest_watches;
pub mod request_counts;
pub mod timeouts;
pub mod watch;
