//! A host's part in the election: the pure elector, driven as in a real host, on the clock of a simulated machine.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wasmop_api::election::Leases;
use wasmop_core::election::{Answer, Elector, Failure, News, Request, Timing};

use crate::server::Server;

/// What the host says to the election.
#[derive(Debug)]
pub enum Word {
    /// Nothing is left of a controller here.
    GivenUp(u32),
    /// All controllers have stopped.
    End,
}

/// The clock of a machine, its sleep included.
#[derive(Clone)]
pub struct BootClock {
    server: Arc<Server>,
    /// How much it is ahead of the world's.
    ahead: Duration,
    /// It is slow by a half: a planted bug.
    is_slow: bool,
}

impl BootClock {
    /// A clock that is ahead of the world's.
    pub fn new(server: Arc<Server>, ahead: Duration, is_slow: bool) -> BootClock {
        BootClock { server, ahead, is_slow }
    }

    /// The time.
    pub fn now(&self) -> Duration {
        let world = self.server.now();
        self.ahead + if self.is_slow { world / 2 } else { world }
    }
}

struct Answered {
    request: Request,
    sent: Duration,
    answer: Result<Answer, Failure>,
}

/// Drives an elector until it is over or nobody listens. Returns then.
pub async fn run(
    (server, host, clock): (Arc<Server>, usize, BootClock),
    identity: Arc<str>,
    controllers: Vec<Arc<str>>,
    mut words: mpsc::UnboundedReceiver<Word>,
    tell: impl Fn(News),
) {
    let timing = Timing::default();
    let leases = Leases::new(server.client(host), "default", "wasmop".into());
    let started_us = server.now().as_micros() as i64 + 1;
    let mut elector = Elector::new(timing, identity, started_us, controllers, clock.now());
    let (tx, mut answered) = mpsc::unbounded_channel();
    let mut under_way = JoinSet::new();
    loop {
        server.go_on(host).await;
        for request in elector.poll(clock.now()) {
            let (leases, tx, clock) = (leases.clone(), tx.clone(), clock.clone());
            under_way.spawn(async move {
                let sent = clock.now();
                let limit = timing.request_timeout();
                let answer = match tokio::time::timeout(limit, leases.execute(&request)).await {
                    Ok(answer) => answer,
                    Err(_) => Err(Failure::Other(format!("no answer within {limit:?}"))),
                };
                let _ = tx.send(Answered { request, sent, answer });
            });
        }
        elector.take_news().into_iter().for_each(&tell);
        if elector.is_over() {
            return;
        }
        while under_way.try_join_next().is_some() {}
        let next = elector.next_at().map(|at| at.saturating_sub(clock.now()));
        let wait = async {
            match next {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(Answered { request, sent, answer }) = answered.recv() => {
                server.go_on(host).await;
                elector.answer(&request, sent, answer, clock.now());
            }
            word = words.recv() => match word {
                Some(Word::GivenUp(slot)) => elector.given_up(slot, clock.now()),
                Some(Word::End) => elector.end(clock.now()),
                None => return,
            },
            () = wait => {}
        }
    }
}
