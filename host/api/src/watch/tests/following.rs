//! Narrower watches beside wider ones: who asks the API server, and what each is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use proptest::prelude::*;
use tokio::sync::Notify;
use wasmop_core::watch::{ObjectBudget, Reader};

use super::super::following::{Following, acquaint};
use super::super::narrowing::Narrowing;
use super::super::shared::{Shared, State};
use super::*;

fn in_a() -> WatchRequest {
    WatchRequest { namespace: Some("a".into()), ..request() }
}

fn labelled() -> WatchRequest {
    WatchRequest { label_selector: "app=x".into(), ..request() }
}

fn whole(request: WatchRequest) -> WatchRequest {
    WatchRequest { full_objects: true, ..request }
}

fn with_app(key: &str, version: u64, app: &str) -> Value {
    let mut object = object(key, version);
    object["metadata"]["labels"] = json!({"app": app});
    object
}

impl World {
    /// The next so many events, as `watch: change`, those of each watch in order.
    async fn told<const N: usize>(&mut self, expected: [&str; N]) {
        let mut told = Vec::new();
        for _ in 0..N {
            let event = self.events.recv().await.unwrap().event;
            told.push(format!("{}: {}", event.watch.0, say(&event.change).0));
        }
        told.sort_by_key(|text| text.split_once(':').unwrap().0.to_owned());
        assert_eq!(told, expected);
    }

    fn is_quiet(&mut self) -> bool {
        self.requests.try_recv().is_err() && self.events.try_recv().is_err()
    }

    fn follow(&self, id: WatchId) -> bool {
        self.hub.watched(id).unwrap().0.state().follows
    }

    async fn until_following(&self, id: WatchId, follows: bool) {
        while self.follow(id) != follows {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn held(&self, id: WatchId) -> Vec<Key> {
        self.hub.keys(id)
    }
}

async fn closed(stream: &Stream) {
    while !stream.0.is_closed() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn narrower_watches_follow_one_that_begins_with_them() {
    let mut world = World::new();
    let [all, a, x] = [request(), in_a(), labelled()].map(|request| world.hub.subscribe(request));
    world.serve_websites().await;
    world.request("/v1/websites?&limit=500").await.json(
        200,
        &json!({"metadata": {"resourceVersion": "10"}, "items": [object("a/1", 1), with_app("b/2", 2, "x"), with_app("b/3", 3, "y")]}),
    );
    let stream = world.request("resourceVersion=10").await.stream();
    world.told(["0: +a/1", "0: +b/2", "0: +b/3", "0: synced", "1: +a/1", "1: synced", "2: +b/2", "2: synced"]).await;
    // An object is in a selector's watch while it matches.
    stream.event("MODIFIED", &with_app("b/3", 11, "x"));
    world.told(["0: ~b/3", "2: +b/3"]).await;
    stream.event("MODIFIED", &with_app("b/2", 12, "y"));
    world.told(["0: ~b/2", "2: -b/2"]).await;
    stream.event("MODIFIED", &with_app("a/1", 13, "x"));
    world.told(["0: ~a/1", "1: ~a/1", "2: +a/1"]).await;
    stream.event("DELETED", &with_app("a/1", 14, "x"));
    world.told(["0: -a/1", "1: -a/1", "2: -a/1"]).await;
    // They are as far as it is, also if nothing of theirs has changed.
    stream.event("BOOKMARK", &json!({"metadata": {"resourceVersion": "20"}}));
    while world.hub.look(a, |known| known.position) != Some(20) {
        tokio::task::yield_now().await;
    }
    // A relist is one for all.
    drop(stream);
    world.request("resourceVersion=20").await.json(410, &expired());
    world.request("limit=500").await.json(
        200,
        &json!({"metadata": {"resourceVersion": "30"}, "items": [object("a/4", 21), with_app("b/3", 22, "x")]}),
    );
    let _open = world.request("resourceVersion=30").await.stream();
    world.told(["0: +a/4", "0: ~b/3", "0: -b/2", "0: synced", "1: +a/4", "1: synced", "2: ~b/3", "2: synced"]).await;
    assert_eq!(
        world.hub.status().iter().map(|watch| (watch.follows, watch.lists)).collect::<BTreeSet<_>>(),
        [(false, 2), (true, 0)].into()
    );
    assert!([all, a, x].iter().all(|id| world.hub.namespaced(*id) == Some(true)));
    assert!(world.is_quiet());
}

#[tokio::test]
async fn one_that_comes_later_takes_over_what_is_known_and_goes_on_when_the_wider_one_ends() {
    let (mut world, all, stream) = World::watching(&[("a/1", 1), ("ab/2", 2), ("b/3", 3)]).await;
    let a = world.hub.subscribe(in_a());
    world.told(["1: +a/1", "1: synced"]).await;
    stream.event("ADDED", &object("a/4", 11));
    world.told(["0: +a/4", "1: +a/4"]).await;
    // Whoever listens later is told what it holds.
    world.hub.replay(a, 7);
    world.told(["1: synced", "1: +a/1", "1: +a/4", "1: replayed"]).await;
    // Labels of what is known already are not known.
    world.hub.subscribe(labelled());
    let list = world.request("labelSelector=app%3Dx").await;
    list.list("11", &[("b/3", 3)]);
    let _labelled = world.request("watch=true").await;
    world.told(["2: +b/3", "2: synced"]).await;

    stream.event("BOOKMARK", &json!({"metadata": {"resourceVersion": "15"}}));
    while world.hub.look(a, |known| known.position) != Some(15) {
        tokio::task::yield_now().await;
    }
    world.hub.release(all);
    closed(&stream).await;
    // No list: it goes on from there.
    let watch = world.request("namespaces/a/websites?").await;
    assert!(watch.path.contains("watch=true") && watch.path.contains("resourceVersion=15"), "{}", watch.path);
    watch.stream().event("DELETED", &object("a/1", 16));
    world.told(["1: -a/1"]).await;
    assert_eq!(world.held(a), ["a/4".into()] as [Key; 1]);
}

#[tokio::test]
async fn a_wider_one_takes_over_once_it_has_seen_as_much() {
    let mut world = World::new();
    let a = world.hub.subscribe(in_a());
    world.serve_websites().await;
    world.request("namespaces/a").await.list("20", &[("a/1", 1), ("a/2", 15)]);
    let own = world.request("resourceVersion=20").await.stream();
    world.told(["0: +a/1", "0: +a/2", "0: synced"]).await;
    world.hub.subscribe(request());
    // From a cache that lags behind.
    world.request("/v1/websites?&limit=500").await.list("10", &[("a/1", 1), ("b/1", 3)]);
    let wider = world.request("resourceVersion=10").await.stream();
    world.told(["1: +a/1", "1: +b/1", "1: synced"]).await;
    own.event("MODIFIED", &object("a/1", 21));
    world.told(["0: ~a/1"]).await;
    assert!(!own.0.is_closed() && !world.follow(a));
    for event in [object("a/2", 15), object("a/1", 21)] {
        wider.event("MODIFIED", &event);
    }
    world.told(["1: +a/2", "1: ~a/1"]).await;
    world.until_following(a, true).await;
    closed(&own).await;
    wider.event("DELETED", &object("a/2", 22));
    // It was told nothing twice.
    world.told(["0: synced", "0: -a/2", "1: -a/2"]).await;
    assert!(world.is_quiet());
}

#[tokio::test]
async fn one_that_may_have_less_is_not_held_up_by_one_that_may_not_have_all() {
    let mut world = World::new();
    let ids = [request(), in_a()].map(|request| world.hub.subscribe(request));
    world.serve_websites().await;
    world.request("/v1/websites?").await.error(403);
    world.request("namespaces/a/websites?").await.list("10", &[("a/1", 1)]);
    let own = world.request("namespaces/a/websites?").await.stream();
    world.told(["0: Forbidden", "1: +a/1", "1: synced"]).await;
    // Until it may.
    loop {
        let list = world.request("/v1/websites?").await;
        if world.hub.status().len() == 2 {
            list.list("12", &[("a/1", 1), ("a/2", 11), ("b/1", 2)]);
            break;
        }
    }
    let wider = world.request("/v1/websites?").await.stream();
    world.until_following(ids[1], true).await;
    closed(&own).await;
    world.told(["0: +a/1", "0: +a/2", "0: +b/1", "0: synced", "1: +a/2", "1: synced"]).await;
    // It may no longer: the other one goes on by itself.
    drop(wider);
    world.request("/v1/websites?&watch=true").await.error(403);
    while world.requests.recv().await.unwrap().path.contains("/v1/websites?") {}
    assert!(!world.follow(ids[1]));
}

#[tokio::test]
async fn while_the_api_server_is_away_who_follows_waits_with_the_wider_one() {
    let mut world = World::new();
    let a = [request(), in_a()].map(|request| world.hub.subscribe(request))[1];
    world.serve_websites().await;
    world.request("/v1/websites?").await.list("10", &[("a/1", 1)]);
    drop(world.request("/v1/websites?").await.stream());
    world.told(["0: +a/1", "0: synced", "1: +a/1", "1: synced"]).await;
    for _ in 0..4 {
        // Nobody else asks.
        drop(world.request("/v1/websites?&watch=true").await);
    }
    world.told(["0: Unreachable", "1: Unreachable"]).await;
    assert!(world.follow(a) && world.hub.look(a, |_| ()).is_none());
    let stream = world.request("/v1/websites?&watch=true").await.stream();
    world.told(["0: synced", "1: synced"]).await;
    stream.event("MODIFIED", &object("a/1", 11));
    world.told(["0: ~a/1", "1: ~a/1"]).await;
    assert!(world.follow(a) && world.is_quiet());
}

#[tokio::test]
async fn whole_objects_are_taken_from_whole_objects_only_and_are_counted_once() {
    let (mut world, all, stream) = World::watching(&[("a/1", 1)]).await;
    let a = world.hub.subscribe(whole(in_a()));
    let list = world.request("namespaces/a/websites?").await;
    assert_eq!(list.accept, "");
    list.list("10", &[("a/1", 1)]);
    let own = world.request("namespaces/a/websites?").await.stream();
    world.told(["1: +a/1", "1: synced"]).await;
    let one = world.hub.objects_usage().bytes;
    assert_ne!(one, 0);
    // The wider one begins to have them.
    world.hub.subscribe(whole(request()));
    closed(&stream).await;
    world.request("/v1/websites?&limit=50").await.list("11", &[("a/1", 1), ("b/2", 2)]);
    let wider = world.request("/v1/websites?").await.stream();
    world.until_following(a, true).await;
    closed(&own).await;
    world.told(["0: +b/2", "0: synced", "1: synced"]).await;
    assert_eq!(world.hub.objects_usage().bytes, 2 * one);
    let object_of =
        |world: &World, id| world.hub.look(id, |known| known.index.object("a/1").cloned()).flatten().unwrap();
    assert!(Arc::ptr_eq(&object_of(&world, all), &object_of(&world, a)));
    // A selector finds the labels in them.
    let x = world.hub.subscribe(labelled());
    world.told(["2: synced"]).await;
    wider.event("MODIFIED", &with_app("b/2", 12, "x"));
    world.told(["0: ~b/2", "2: +b/2"]).await;
    assert!(world.hub.look(x, |known| known.index.object("b/2").is_none()).unwrap(), "it has no use for it");
    // On its own again, what it keeps is its own.
    world.hub.release(all);
    world.hub.release(all);
    while [a, x].iter().any(|id| world.follow(*id)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while world.hub.objects_usage().bytes != one {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn one_that_follows_can_begin_to_want_whole_objects() {
    for wider_is_whole in [false, true] {
        let mut world = World::new();
        let mut ids =
            [if wider_is_whole { whole(request()) } else { request() }, in_a()].map(|r| world.hub.subscribe(r));
        world.serve_websites().await;
        world.request("/v1/websites?").await.list("10", &[("a/1", 1), ("b/1", 2)]);
        let _wider = world.request("/v1/websites?").await.stream();
        world.told(["0: +a/1", "0: +b/1", "0: synced", "1: +a/1", "1: synced"]).await;
        ids[1] = world.hub.subscribe(whole(in_a()));
        world.hub.replay(ids[1], 7);
        if !wider_is_whole {
            world.request("namespaces/a/websites?").await.list("11", &[("a/1", 1)]);
            let _own = world.request("namespaces/a/websites?").await.stream();
        }
        for expected in ["synced", "+a/1", "replayed"] {
            let event = world.events.recv().await.unwrap().event;
            assert_eq!((event.watch, say(&event.change).0.as_str()), (ids[1], expected));
            assert!(!matches!(event.change, Change::Applied { object: None, .. }));
        }
        assert_eq!(world.follow(ids[1]), wider_is_whole);
        assert_eq!(world.hub.look(ids[1], |known| known.index.object("a/1").is_some()), Some(true));
    }
}

#[tokio::test]
async fn who_follows_can_be_followed_and_keeps_its_followers_when_it_is_on_its_own() {
    let mut world = World::new();
    let requests = [WatchRequest { namespace: Some("a".into()), ..labelled() }, in_a(), request()];
    let [x_in_a, a, all] = requests.map(|request| world.hub.subscribe(request));
    world.serve_websites().await;
    // Whoever can follow does so before it asks, if the wider one has not listed yet.
    world.request("/v1/websites?&limit=500").await.json(
        200,
        &json!({"metadata": {"resourceVersion": "10"}, "items": [with_app("a/1", 1, "x"), object("a/2", 2), object("b/1", 3)]}),
    );
    let stream = world.request("resourceVersion=10").await.stream();
    world
        .told(["0: +a/1", "0: synced", "1: +a/1", "1: +a/2", "1: synced", "2: +a/1", "2: +a/2", "2: +b/1", "2: synced"])
        .await;
    stream.event("MODIFIED", &with_app("a/2", 11, "x"));
    world.told(["0: +a/2", "1: ~a/2", "2: ~a/2"]).await;
    world.hub.release(all);
    // From the namespace's watch, which goes on, or by itself: in any case it is told once.
    let own = world.request("/namespaces/a/websites?").await;
    assert!(own.path.contains("resourceVersion=11"), "{}", own.path);
    let other = tokio::time::timeout(Duration::from_millis(200), world.requests.recv()).await.ok().flatten();
    let streams: Vec<_> = std::iter::once(own).chain(other).map(Exchange::stream).collect();
    world.until_following(x_in_a, true).await;
    for stream in streams.iter().filter(|stream| !stream.0.is_closed()) {
        stream.event("DELETED", &with_app("a/1", 12, "x"));
    }
    let mut told = [world.events.recv().await.unwrap().event, world.events.recv().await.unwrap().event];
    told.sort_by_key(|event| event.watch);
    assert_eq!(told.map(|event| (event.watch, say(&event.change).0)), [(x_in_a, "-a/1".into()), (a, "-a/1".into())]);
    assert_eq!([x_in_a, a].map(|id| world.held(id).len()), [1, 1]);
}

#[tokio::test]
async fn who_judges_by_labels_is_let_go_when_what_it_follows_takes_over_metadata() {
    let mut world = World::new();
    let requests = [in_a(), WatchRequest { namespace: Some("a".into()), ..labelled() }];
    let [a, x_in_a] = requests.map(|request| world.hub.subscribe(request));
    world.serve_websites().await;
    let items = json!([with_app("a/1", 1, "x"), object("a/2", 2)]);
    let list = || json!({"metadata": {"resourceVersion": "10"}, "items": items});
    world.request("namespaces/a").await.json(200, &list());
    let own = world.request("resourceVersion=10").await.stream();
    world.told(["0: +a/1", "0: +a/2", "0: synced", "1: +a/1", "1: synced"]).await;
    assert!(world.follow(x_in_a));
    world.hub.subscribe(request());
    world.request("/v1/websites?").await.json(200, &list());
    let wider = world.request("/v1/websites?").await.stream();
    // It goes on by itself, and is not told that its objects are gone, whose labels nobody knows.
    let labelled = world.request("labelSelector=app%3Dx").await;
    assert!(labelled.path.contains("watch=true&") && labelled.path.contains("resourceVersion=10"), "{}", labelled.path);
    let labelled = labelled.stream();
    closed(&own).await;
    world.told(["0: synced", "2: +a/1", "2: +a/2", "2: synced"]).await;
    assert_eq!([a, x_in_a].map(|id| (world.follow(id), world.held(id).len())), [(true, 2), (false, 1)]);
    for stream in [&wider, &labelled] {
        stream.event("MODIFIED", &with_app("a/1", 11, "x"));
    }
    world.told(["0: ~a/1", "1: ~a/1", "2: ~a/1"]).await;
}

/// What may happen to a wider watch and to the narrower ones.
#[derive(Clone, Debug)]
enum Step {
    /// The object in this namespace of this name changes, or comes, or goes.
    Set(u8, u8, u8),
    Delete(u8, u8),
    /// A list with what there is, up to so many objects; complete if there are no more.
    List(u8),
    Follow(usize),
    Leave(usize),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2u8, 0..3u8, 0..3u8).prop_map(|(namespace, name, app)| Step::Set(namespace, name, app)),
        3 => (0..2u8, 0..3u8).prop_map(|(namespace, name)| Step::Delete(namespace, name)),
        2 => (0..9u8).prop_map(Step::List),
        4 => (0..4usize).prop_map(Step::Follow),
        1 => (0..4usize).prop_map(Step::Leave),
        1 => Just(Step::Close),
    ]
}

/// A watch, its listener's idea of what there is, and its request.
struct Watch {
    shared: Arc<Shared>,
    events: UnboundedReceiver<Delivery>,
    model: BTreeMap<Key, ResourceVersion>,
    request: WatchRequest,
    follows: Option<Following>,
}

impl Watch {
    fn new(request: WatchRequest) -> Watch {
        let (sender, events) = unbounded_channel();
        let shared = Arc::new(Shared {
            id: WatchId(0),
            events: sender,
            state: Mutex::new(State { whole: request.full_objects, ..State::default() }),
            journal: None,
            start: None,
            room: Arc::new(ObjectBudget::default()),
            flow: Arc::default(),
            widened: Notify::new(),
            nudged: Notify::new(),
        });
        Watch { shared, events, model: BTreeMap::new(), request, follows: None }
    }

    /// Takes in what it was told.
    fn listen(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            match event.event.change {
                Change::Applied { key, meta, old, .. } => {
                    let known = self.model.insert(key, meta.resource_version);
                    assert_eq!(known, old.map(|old| old.resource_version));
                }
                Change::Deleted { key, .. } => assert!(self.model.remove(&key).is_some()),
                _ => {}
            }
        }
    }

    fn held(&self) -> BTreeMap<Key, ResourceVersion> {
        let state = self.shared.state();
        state.index.keys().map(|key| (key.clone(), state.index.get(key).unwrap().resource_version)).collect()
    }
}

proptest! {
    #[test]
    fn who_follows_holds_what_matches_and_was_told_it(
        whole_objects in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let with = |request: WatchRequest| if whole_objects { whole(request) } else { request };
        let mut wider = Watch::new(with(request()));
        let requests = [in_a(), labelled(), WatchRequest { namespace: Some("a".into()), ..labelled() }, with(in_a())];
        let mut narrower: Vec<_> = requests.into_iter().map(Watch::new).collect();
        for watch in &narrower {
            acquaint(&wider.shared, &watch.shared, Narrowing::between(&wider.request, &watch.request).unwrap());
        }
        let mut there: BTreeMap<String, Value> = BTreeMap::new();
        let mut version = 0;
        let mut listing: Option<Vec<Value>> = None;
        let mut closed = false;
        let mut reader = Reader::new(whole_objects.then(|| ("demo.wasmop.dev/v1".into(), "Website".into())));
        for step in steps {
            let key = |namespace, name| format!("{}/{name}", ["a", "b"][usize::from(namespace)]);
            let begun = wider.shared.state().index.has_begun();
            match step {
                Step::Set(namespace, name, app) => {
                    version += 1;
                    let object = with_app(&key(namespace, name), version, ["x", "y", "z"][usize::from(app)]);
                    there.insert(key(namespace, name), object.clone());
                    if begun && listing.is_none() && !closed {
                        let text = object.to_string();
                        let item = reader.read(&text).unwrap();
                        wider.shared.apply(item.seen, item.labels);
                        wider.shared.set_position(Some(version));
                    }
                }
                Step::Delete(namespace, name) => {
                    let Some(object) = there.remove(&key(namespace, name)) else { continue };
                    version += 1;
                    if begun && listing.is_none() && !closed {
                        wider.shared.delete(reader.read(&object.to_string()).unwrap().seen);
                        wider.shared.set_position(Some(version));
                    }
                }
                Step::List(count) if !closed => {
                    let rest = listing.take().unwrap_or_else(|| {
                        wider.shared.begin_list();
                        there.values().cloned().collect()
                    });
                    // A list is of one moment; what changes meanwhile comes by the watch after it.
                    let (now, later) = rest.split_at(usize::from(count).min(rest.len()));
                    for object in now {
                        let text = object.to_string();
                        let item = reader.read(&text).unwrap();
                        wider.shared.apply(item.seen, item.labels);
                    }
                    listing = Some(later.to_vec());
                    if later.is_empty() {
                        listing = None;
                        wider.shared.finish_list();
                        for (key, object) in &there {
                            let text = object.to_string();
                            let item = reader.read(&text).unwrap();
                            let known = wider.shared.state().index.get(key).map(|meta| meta.resource_version);
                            if known != Some(item.seen.meta.resource_version) {
                                wider.shared.apply(item.seen, item.labels);
                            }
                        }
                        let gone: Vec<_> = wider.held().into_keys().filter(|key| !there.contains_key(&**key)).collect();
                        for key in gone {
                            wider.shared.delete(reader.read(&object(&key, version).to_string()).unwrap().seen);
                        }
                        wider.shared.set_position(Some(version));
                        wider.shared.synced();
                    }
                }
                Step::List(_) => {}
                Step::Follow(n) => {
                    if narrower[n].follows.is_none() {
                        narrower[n].follows = narrower[n].shared.follow();
                        prop_assert!(!closed || narrower[n].follows.is_none());
                    }
                }
                Step::Leave(n) => narrower[n].follows = None,
                Step::Close => {
                    wider.shared.close();
                    closed = true;
                    prop_assert!(!wider.shared.state().is_followed());
                }
            }
            wider.listen();
            prop_assert_eq!(&wider.model, &wider.held());
            for watch in &mut narrower {
                watch.listen();
                prop_assert_eq!(&watch.model, &watch.held());
                let is_in_order = watch.shared.state().synced && listing.is_none();
                if watch.follows.is_some() && !closed && is_in_order {
                    let narrowing = Narrowing::between(&wider.request, &watch.request).unwrap();
                    let matches = |key: &Key| {
                        let text = there[&**key].to_string();
                        narrowing.contains(key, super::super::narrowing::labels_of(&text))
                    };
                    let expected: BTreeMap<_, _> = wider.held().into_iter().filter(|(key, _)| matches(key)).collect();
                    prop_assert_eq!(watch.held(), expected);
                    prop_assert_eq!(watch.shared.state().position, wider.shared.state().position);
                }
                let state = watch.shared.state();
                prop_assert!(watch.request.full_objects || state.index.keys().all(|key| state.index.object(key).is_none()));
            }
        }
    }
}
