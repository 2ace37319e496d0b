//! Renders the templates of a chart, as `helm template` does, with the chart's default values.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::expression::{Command, Operand, Pipeline};
use super::functions::{call, item, shown};
use super::template::{Node, parse};
use super::unknown::{truth, unknown};

/// Nested templates. Beyond it, a chart includes itself.
const MAX_DEPTH: usize = 32;

/// Nodes and operands of one file. A hostile chart could otherwise take forever.
const MAX_WORK: usize = 200_000;

/// Bytes that a file or a value may expand to.
const MAX_BYTES: usize = 4 << 20;

const TOO_LARGE: &str = "the template is too large";

/// A chart: its values and its named templates.
pub struct Chart {
    /// The dot of each file.
    root: Value,
    templates: BTreeMap<String, Vec<Node>>,
}

impl Chart {
    /// `chart` is the content of `Chart.yaml`, and `values` that of `values.yaml`. `helpers` are files whose named
    /// templates others include. Those that cannot be parsed are left out.
    pub fn new(chart: &Value, values: Value, helpers: &[&str]) -> Chart {
        let name = chart["name"].as_str().unwrap_or("chart");
        // In templates, the keys of Chart.yaml begin with a capital.
        let mut about = Map::new();
        for (key, value) in chart.as_object().into_iter().flatten() {
            let mut letters = key.chars();
            let first = letters.next().map(|c| c.to_ascii_uppercase());
            about.insert(first.into_iter().chain(letters).collect(), value.clone());
        }
        let root = json!({
            "Values": values,
            "Chart": about,
            // As in `helm install NAME`; so the names of objects are short.
            "Release": {
                "Name": name,
                "Namespace": unknown(),
                "Service": "Helm",
                "IsInstall": true,
                "IsUpgrade": false,
                "Revision": 1,
            },
            "Capabilities": {"KubeVersion": unknown(), "APIVersions": unknown(), "HelmVersion": unknown()},
            "Template": {"Name": unknown(), "BasePath": unknown()},
            "Files": unknown(),
        });
        let mut chart = Chart { root, templates: BTreeMap::new() };
        for helper in helpers {
            for node in parse(helper).unwrap_or_default() {
                if let Node::Define { name, body, .. } = node {
                    chart.templates.insert(name, body);
                }
            }
        }
        chart
    }

    /// Renders a file.
    pub fn render(&self, text: &str) -> Result<String, String> {
        let nodes = parse(text)?;
        let mut run = Run { chart: self, work: 0, depth: 0 };
        let mut scope = Scope::new(self.root.clone());
        let mut output = String::new();
        run.nodes(&nodes, &mut scope, &mut output)?;
        Ok(output)
    }
}

/// The dot and the variables.
struct Scope {
    dot: Value,
    variables: Vec<(String, Value)>,
}

impl Scope {
    fn new(dot: Value) -> Scope {
        Scope { variables: vec![(String::new(), dot.clone())], dot }
    }
}

/// The rendering of one file.
struct Run<'a> {
    chart: &'a Chart,
    work: usize,
    depth: usize,
}

impl Run<'_> {
    fn spend(&mut self, output: usize) -> Result<(), String> {
        self.work += 1;
        if self.work > MAX_WORK || output > MAX_BYTES { Err(TOO_LARGE.to_owned()) } else { Ok(()) }
    }

    fn nodes(&mut self, nodes: &[Node], scope: &mut Scope, output: &mut String) -> Result<(), String> {
        let outer = scope.variables.len();
        for node in nodes {
            self.spend(output.len())?;
            self.node(node, scope, output)?;
        }
        scope.variables.truncate(outer);
        Ok(())
    }

    fn node(&mut self, node: &Node, scope: &mut Scope, output: &mut String) -> Result<(), String> {
        match node {
            Node::Text(text) => output.push_str(text),
            Node::Print(pipeline) => output.push_str(&shown(&self.pipeline(pipeline, scope)?)),
            Node::Assign { name, declares, value } => {
                let value = self.pipeline(value, scope)?;
                let known = scope.variables.iter_mut().rev().find(|(known, _)| known == name);
                match known {
                    Some((_, known)) if !declares => *known = value,
                    _ => scope.variables.push((name.clone(), value)),
                }
            }
            Node::If(branches) => {
                for (condition, body) in branches {
                    let holds = match condition {
                        Some(condition) => truth(&self.pipeline(condition, scope)?),
                        None => Some(true),
                    };
                    // What may be there is better shown than hidden.
                    if holds != Some(false) {
                        return self.nodes(body, scope, output);
                    }
                }
            }
            Node::With { variable, value, body, otherwise } => {
                let value = self.pipeline(value, scope)?;
                if truth(&value) == Some(false) {
                    return self.nodes(otherwise, scope, output);
                }
                let variables = variable.iter().map(|name| (name.clone(), value.clone())).collect();
                self.inside(value, variables, body, scope, output)?;
            }
            Node::Range { variables, over, body, otherwise } => {
                let items: Vec<(Value, Value)> = match self.pipeline(over, scope)? {
                    Value::Array(items) => items.into_iter().enumerate().map(|(at, it)| (at.into(), it)).collect(),
                    Value::Object(fields) => fields.into_iter().map(|(key, it)| (key.into(), it)).collect(),
                    _ => Vec::new(),
                };
                if items.is_empty() {
                    return self.nodes(otherwise, scope, output);
                }
                for (key, value) in items {
                    let of_item = match &variables[..] {
                        [item] => vec![(item.clone(), value.clone())],
                        [index, item] => vec![(index.clone(), key), (item.clone(), value.clone())],
                        _ => Vec::new(),
                    };
                    self.inside(value, of_item, body, scope, output)?;
                }
            }
            Node::Define { name: _, body, shown_with } => {
                if let Some(dot) = shown_with {
                    let dot = self.pipeline(dot, scope)?;
                    self.nodes(body, &mut Scope::new(dot), output)?;
                }
            }
            Node::Template { name, dot } => {
                let dot = self.pipeline(dot, scope)?;
                output.push_str(&self.named(name, dot)?);
            }
        }
        Ok(())
    }

    /// Renders a body with another dot and more variables.
    fn inside(
        &mut self,
        dot: Value,
        mut variables: Vec<(String, Value)>,
        body: &[Node],
        scope: &mut Scope,
        output: &mut String,
    ) -> Result<(), String> {
        let outer = std::mem::replace(&mut scope.dot, dot);
        let count = scope.variables.len();
        scope.variables.append(&mut variables);
        let result = self.nodes(body, scope, output);
        scope.variables.truncate(count);
        scope.dot = outer;
        result
    }

    /// A named template. One that the chart lacks is part of another chart, and unknown.
    fn named(&mut self, name: &str, dot: Value) -> Result<String, String> {
        let chart = self.chart;
        let Some(body) = chart.templates.get(name) else { return Ok(shown(&unknown())) };
        if self.depth >= MAX_DEPTH {
            return Err(format!("the template `{name}` includes itself"));
        }
        self.depth += 1;
        let mut output = String::new();
        self.nodes(body, &mut Scope::new(dot), &mut output)?;
        self.depth -= 1;
        Ok(output)
    }

    fn pipeline(&mut self, pipeline: &Pipeline, scope: &mut Scope) -> Result<Value, String> {
        let mut result = None;
        for command in pipeline {
            result = Some(self.command(command, result, scope)?);
        }
        Ok(result.unwrap_or_default())
    }

    fn command(&mut self, command: &Command, piped: Option<Value>, scope: &mut Scope) -> Result<Value, String> {
        self.spend(0)?;
        let Some((first, rest)) = command.split_first() else { return Ok(unknown()) };
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            arguments.push(self.operand(operand, scope)?);
        }
        arguments.extend(piped);
        let value = match first {
            Operand::Word(name) => self.function(name, &arguments),
            _ if arguments.is_empty() => self.operand(first, scope),
            // A method. Charts use one that matters here.
            Operand::Fields(fields) | Operand::Variable(_, fields)
                if fields.ends_with(&["APIVersions".to_owned(), "Has".to_owned()]) =>
            {
                Ok(is_builtin_api(&shown(&arguments[0])).into())
            }
            _ => Ok(unknown()),
        }?;
        if size(&value) > MAX_BYTES { Err(TOO_LARGE.to_owned()) } else { Ok(value) }
    }

    fn function(&mut self, name: &str, arguments: &[Value]) -> Result<Value, String> {
        Ok(match (name, arguments) {
            ("include", [template, dot]) => self.named(&shown(template), dot.clone())?.into(),
            ("tpl", [text, dot]) => {
                if self.depth >= MAX_DEPTH {
                    return Err("`tpl` calls itself".to_owned());
                }
                self.depth += 1;
                let mut output = String::new();
                self.nodes(&parse(&shown(text))?, &mut Scope::new(dot.clone()), &mut output)?;
                self.depth -= 1;
                output.into()
            }
            _ => call(name, arguments),
        })
    }

    fn operand(&mut self, operand: &Operand, scope: &mut Scope) -> Result<Value, String> {
        let (value, fields) = match operand {
            Operand::Literal(value) => return Ok(value.clone()),
            Operand::Word(name) => return self.function(name, &[]),
            Operand::Fields(fields) => (&scope.dot, fields),
            Operand::Variable(name, fields) => {
                let known = scope.variables.iter().rev().find(|(known, _)| known == name);
                (known.map_or(&Value::Null, |(_, value)| value), fields)
            }
            Operand::Group(pipeline, fields) => {
                let value = self.pipeline(pipeline, scope)?;
                return Ok(field(&value, fields));
            }
        };
        Ok(field(value, fields))
    }
}

/// The value at a path of fields. A path below an unknown value is unknown, and one that is absent is null.
fn field(value: &Value, fields: &[String]) -> Value {
    match fields {
        [] => value.clone(),
        [name, rest @ ..] => match value.get(name) {
            Some(inner) => field(inner, rest),
            None => fields.iter().fold(value.clone(), |value, name| item(&value, &name.as_str().into())),
        },
    }
}

/// The bytes of a value, roughly.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| 16 + size(item)).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + 32 + size(value)).sum(),
        _ => 8,
    }
}

/// Whether every cluster serves an API: `apps/v1`, `policy/v1`, `rbac.authorization.k8s.io/v1`.
fn is_builtin_api(version: &str) -> bool {
    let group = version.split('/').next().unwrap_or_default();
    let of_project = ["gateway.networking.k8s.io", "snapshot.storage.k8s.io", "metrics.k8s.io"];
    !group.contains('.') || (group.ends_with(".k8s.io") && !of_project.contains(&group) && !group.contains(".x-k8s.io"))
}

#[cfg(test)]
mod tests {
    use super::super::unknown::UNKNOWN;
    use super::*;

    fn rendered(text: &str) -> Result<String, String> {
        let values = json!({
            "on": true, "off": false, "list": ["a", "b"], "map": {"k": "v"}, "text": "x", "tpl": "{{ .Values.text }}!",
        });
        let helpers = [
            r#"{{- define "name" -}}{{ .Chart.Name | trunc 63 | trimSuffix "-" }}{{- end }}"#,
            r#"{{ define "self" }}{{ include "self" . }}{{ end }}"#,
            r#"{{ define "args" }}{{ .a }}{{ $.b }}{{ end }}"#,
            "{{ if broken",
        ];
        Chart::new(&json!({"name": "site", "appVersion": "1.2"}), values, &helpers).render(text)
    }

    #[test]
    fn templates_render_with_the_default_values() {
        for (text, expected) in [
            ("{{ .Values.text }}", "x"),
            ("{{ .Values.none.deeper }}", ""),
            ("{{ if .Values.on }}a{{ else }}b{{ end }}", "a"),
            ("{{ if .Values.off }}a{{ else if .Values.on }}b{{ else }}c{{ end }}", "b"),
            ("{{ if and .Values.on (not .Values.off) }}a{{ end }}", "a"),
            ("{{ with .Values.map }}{{ .k }}{{ $.Values.text }}{{ end }}", "vx"),
            ("{{ with .Values.none }}a{{ else }}b{{ end }}", "b"),
            ("{{ range .Values.list }}{{ . }},{{ end }}", "a,b,"),
            ("{{ range $i, $x := .Values.list }}{{ $i }}{{ $x }}{{ end }}", "0a1b"),
            ("{{ range $k, $v := .Values.map }}{{ $k }}={{ $v }}{{ end }}", "k=v"),
            ("{{ range .Values.none }}a{{ else }}b{{ end }}", "b"),
            ("{{ $x := 1 }}{{ if .Values.on }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
            (r#"{{ include "name" . }}-{{ .Chart.AppVersion }}"#, "site-1.2"),
            (r#"{{ template "name" . }}"#, "site"),
            (r#"{{ include "args" (dict "a" 1 "b" .Values.text) }}"#, "1x"),
            ("{{ tpl .Values.tpl . }}", "x!"),
            (r#"{{ if .Capabilities.APIVersions.Has "apps/v1" }}a{{ end }}"#, "a"),
            (r#"{{ if .Capabilities.APIVersions.Has "route.openshift.io/v1" }}a{{ end }}"#, ""),
            (r#"{{ block "b" .Values.map }}{{ .k }}{{ end }}"#, "v"),
        ] {
            assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_only_an_installation_decides_is_marked() {
        for text in [
            "{{ .Release.Namespace }}",
            "{{ .Files.Get \"x\" }}",
            "{{ include \"other.chart\" . }}",
            "{{ .Capabilities.KubeVersion.Version }}",
            "{{ noSuchFunction }}",
        ] {
            let rendered = rendered(text);
            assert_eq!(rendered.as_deref(), Ok(UNKNOWN), "{text}");
        }
        assert_eq!(rendered("{{ if .Release.Namespace }}a{{ else }}b{{ end }}").as_deref(), Ok("a"));
    }

    #[test]
    fn a_hostile_template_ends() {
        let wide = format!("{{{{ range list {} }}}}", "1 ".repeat(200));
        let nested = format!("{}x{}", wide.repeat(4), "{{ end }}".repeat(4));
        let doubling = format!("{{{{ $x := \"0123456789\" }}}}{}", "{{ $x = printf \"%s%s\" $x $x }}".repeat(40));
        for text in [r#"{{ include "self" . }}"#, &nested, &doubling, r#"{{ tpl "{{ tpl . . }}" "{{ tpl . . }}" }}"#] {
            assert!(rendered(text).is_err(), "{text:.40}");
        }
    }
}
