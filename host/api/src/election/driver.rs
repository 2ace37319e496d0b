//! Runs the elector in its own task, so that a busy host still renews its Lease.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use wasmop_core::election::{Answer, Elector, Failure, Group, News, Request, Role};

use super::boot_clock::now;
use super::leases::Leases;
use super::local_state::LocalState;

/// Most Leases of controllers written at once: a new host may get a thousand controllers.
const AT_ONCE: usize = 16;
/// Time limit for releasing all Leases when the host ends.
const END_LIMIT: Duration = Duration::from_secs(10);

enum Command {
    GivenUp(u32),
    End(oneshot::Sender<()>),
}

struct Answered {
    request: Request,
    sent: Duration,
    answer: Result<Answer, Failure>,
}

/// A host's part in the election. Dropping it ends the election without releasing Leases.
pub struct Election {
    commands: mpsc::UnboundedSender<Command>,
    task: AbortHandle,
}

impl Drop for Election {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Election {
    /// Starts the election. `controllers`: names by slot. `tell` gets the election's news in order.
    ///
    /// # Panics
    /// It must be called within a tokio runtime.
    pub fn start(
        group: &Group,
        client: kube::Client,
        local_state: &LocalState,
        controllers: Vec<Arc<str>>,
        tell: impl Fn(News) + Send + 'static,
    ) -> Election {
        let namespace = group.namespace.as_deref().unwrap_or(client.default_namespace()).to_owned();
        let leases = Leases::new(client, &namespace, group.name.as_str().into());
        let started_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let elector = Elector::new(group.timing, local_state.identity().clone(), started_us, controllers, now());
        let (commands, rx) = mpsc::unbounded_channel();
        let (answers, answered) = mpsc::unbounded_channel();
        let driver = Driver {
            elector,
            leases,
            timeout: group.timing.request_timeout(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            answers,
            tell,
        };
        let task = tokio::spawn(driver.run(rx, answered)).abort_handle();
        Election { commands, task }
    }

    /// The host has stopped a controller that it was asked to give up, or that it lost.
    pub fn given_up(&self, slot: u32) {
        let _ = self.commands.send(Command::GivenUp(slot));
    }

    /// Releases all Leases, after all controllers have stopped. It waits until they are released, or at most 10 s.
    pub async fn end(self) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::End(done)).is_ok() {
            let _ = tokio::time::timeout(END_LIMIT, ended).await;
        }
    }
}

struct Driver<T> {
    elector: Elector,
    leases: Leases,
    /// Time limit of a request.
    timeout: Duration,
    at_once: Arc<Semaphore>,
    answers: mpsc::UnboundedSender<Answered>,
    tell: T,
}

impl<T: Fn(News)> Driver<T> {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut answered: mpsc::UnboundedReceiver<Answered>,
    ) {
        let mut done = None;
        loop {
            for request in self.elector.poll(now()) {
                self.send(request);
            }
            self.elector.take_news().into_iter().for_each(&self.tell);
            if self.elector.is_over() {
                break;
            }
            let next = self.elector.next_at();
            let wait = async {
                match next {
                    Some(at) => tokio::time::sleep(at.saturating_sub(now())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(Answered { request, sent, answer }) = answered.recv() => {
                    self.elector.answer(&request, sent, answer, now());
                }
                command = commands.recv() => match command {
                    Some(Command::GivenUp(slot)) => self.elector.given_up(slot, now()),
                    Some(Command::End(tx)) => {
                        done = Some(tx);
                        self.elector.end(now());
                    }
                    None => break,
                },
                () = wait => {}
            }
        }
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn send(&self, request: Request) {
        let (leases, answers, at_once, limit) =
            (self.leases.clone(), self.answers.clone(), self.at_once.clone(), self.timeout);
        tokio::spawn(async move {
            // Renewals of the host's own Lease do not wait.
            let _permit = match &request {
                Request::Write(write) if write.role == Role::Controller => at_once.acquire().await.ok(),
                _ => None,
            };
            let sent = now();
            let answer = match tokio::time::timeout(limit, leases.execute(&request)).await {
                Ok(answer) => answer,
                Err(_) => Err(Failure::Other(format!("no answer within {limit:?}"))),
            };
            let _ = answers.send(Answered { request, sent, answer });
        });
    }
}
