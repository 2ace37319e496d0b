//! The dependency graph of a project, and the path from the project to each crate.

use std::collections::{BTreeMap, VecDeque};

use cargo_metadata::{Dependency, Metadata, Package, PackageId};
use semver::Version;

/// The dependency graph of one package of a workspace.
pub struct Graph {
    packages: BTreeMap<PackageId, Package>,
    edges: BTreeMap<PackageId, Vec<PackageId>>,
    root: PackageId,
    /// The enabled features of the root.
    features: Vec<String>,
}

impl Graph {
    pub fn new(metadata: &Metadata, root: &PackageId) -> Graph {
        let packages = metadata.packages.iter().map(|package| (package.id.clone(), package.clone())).collect();
        let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
        let edges = nodes.map(|node| (node.id.clone(), node.dependencies.clone())).collect();
        let mut nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
        let features = nodes.find(|node| node.id == *root).map(|node| &node.features);
        let features = features.into_iter().flatten().map(ToString::to_string).collect();
        Graph { packages, edges, root: root.clone(), features }
    }

    /// The enabled features of the project's own package.
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// The project's own package.
    pub fn root(&self) -> Option<&Package> {
        self.packages.get(&self.root)
    }

    /// All crates of the build, the project included.
    pub fn reachable(&self) -> Vec<&Package> {
        self.origins().into_keys().filter_map(|id| self.packages.get(id)).collect()
    }

    /// The first crate with this name, and with this version if given.
    pub fn find(&self, name: &str, version: Option<&Version>) -> Option<&Package> {
        let wanted = |package: &&Package| {
            package.name.as_str() == name && version.is_none_or(|version| package.version == *version)
        };
        self.reachable().into_iter().find(wanted)
    }

    /// The shortest path from the project's package to a crate, both included. Empty if there is none.
    pub fn path_to(&self, id: &PackageId) -> Vec<&Package> {
        let origins = self.origins();
        let mut path = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let Some(origin) = origins.get(id) else { return Vec::new() };
            path.extend(self.packages.get(id));
            next = *origin;
        }
        path.reverse();
        path
    }

    /// A dependency as declared in the project's own `Cargo.toml`.
    pub fn declared(&self, name: &str) -> Option<&Dependency> {
        self.root()?.dependencies.iter().find(|dependency| dependency.name == name)
    }

    /// Each reachable crate, and its predecessor on a shortest path from the root.
    fn origins(&self) -> BTreeMap<&PackageId, Option<&PackageId>> {
        let mut origins: BTreeMap<&PackageId, Option<&PackageId>> = BTreeMap::from([(&self.root, None)]);
        let mut next = VecDeque::from([&self.root]);
        while let Some(id) = next.pop_front() {
            for dependency in self.edges.get(id).into_iter().flatten() {
                if !origins.contains_key(dependency) {
                    origins.insert(dependency, Some(id));
                    next.push_back(dependency);
                }
            }
        }
        origins
    }
}
