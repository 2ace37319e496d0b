use super::*;

/// Level, target, message and fields of a line.
fn of(text: &str) -> (Level, String, String, String) {
    let line =
        LogLine { level: Level::INFO, target: "stderr".into(), message: format!("{text}\n"), fields: String::new() };
    let [LogLine { level, target, message, fields }] = read(&line).into_owned().try_into().unwrap();
    (level, target, message, fields)
}

#[test]
fn lines_of_the_usual_loggers_are_read() {
    let table = [
        (
            r"I1129 12:00:00.000001       1 leaderelection.go:250] attempting to acquire leader lease",
            (Level::INFO, "stderr", "attempting to acquire leader lease", r#"{"caller":"leaderelection.go:250"}"#),
        ),
        (
            r#"E1129 12:00:00.123456   12345 main.go:7] "Failed \"x\"" err="not found" key="a/b" n=3 ok=true"#,
            (
                Level::ERROR,
                "stderr",
                r#"Failed "x""#,
                r#"{"caller":"main.go:7","err":"not found","key":"a/b","n":3,"ok":true}"#,
            ),
        ),
        (
            r#"W1129 12:00:00.1 1 a.go:1] "x" is odd"#,
            (Level::WARN, "stderr", r#""x" is odd"#, r#"{"caller":"a.go:1"}"#),
        ),
        (
            r#"{"level":"info","ts":"2026-11-29T12:00:00Z","logger":"setup","msg":"starting manager","a":{"b":1}}"#,
            (Level::INFO, "setup", "starting manager", r#"{"a":{"b":1}}"#),
        ),
        (
            r#"{"time":"2026-11-29T12:00:00Z","level":"WARN","msg":"slow","took":3.5}"#,
            (Level::WARN, "stderr", "slow", r#"{"took":3.5}"#),
        ),
        (
            r#"{"timestamp":"2026-11-29T12:00:00Z","level":"DEBUG","fields":{"message":"seen","n":1},"target":"app::sync"}"#,
            (Level::DEBUG, "app::sync", "seen", r#"{"n":1}"#),
        ),
        (r#"{"level":50,"message":"pino"}"#, (Level::INFO, "stderr", "pino", "")),
        ("2026-11-29T12:00:00Z\tINFO\tsetup\tstarting manager", (Level::INFO, "setup", "starting manager", "")),
        (
            "2026-11-29T12:00:00.5+01:00\tERROR\tcontroller/main.go:12\tReconciler error\t{\"name\":\"a\"}",
            (Level::ERROR, "stderr", "Reconciler error", r#"{"caller":"controller/main.go:12","name":"a"}"#),
        ),
        ("1764417600.25\tDEBUG\tone two\tthree", (Level::DEBUG, "stderr", "one two\tthree", "")),
        (
            r#"time="2026-11-29T12:00:00Z" level=warning msg="no such \"thing\"" count=2 who=me"#,
            (Level::WARN, "stderr", r#"no such "thing""#, r#"{"count":2,"who":"me"}"#),
        ),
        ("level=info ts=1 msg=ok", (Level::INFO, "stderr", "ok", "")),
        (
            "2026-11-29T12:00:00.123456Z  WARN app::sync: cannot reach it error=\"x y\"",
            (Level::WARN, "app::sync", "cannot reach it error=\"x y\"", ""),
        ),
        (
            "\u{1b}[2m2026-11-29T12:00:00Z\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m \u{1b}[2mapp\u{1b}[0m\u{1b}[2m:\u{1b}[0m begins",
            (Level::INFO, "app", "begins", ""),
        ),
        (
            "2026-11-29T12:00:00Z  INFO reconcile{object=a/b}: app: done",
            (Level::INFO, "stderr", "reconcile{object=a/b}: app: done", ""),
        ),
        ("[2026-11-29T12:00:00Z ERROR app::x] lost", (Level::ERROR, "app::x", "lost", "")),
        ("[INFO] lost", (Level::INFO, "stderr", "lost", "")),
        ("2026/11/29 12:00:00 listening", (Level::INFO, "stderr", "listening", "")),
        ("2026/11/29 12:00:00.000001 WARN slow a=1", (Level::WARN, "stderr", "slow a=1", "")),
        ("2026/11/29 12:00:00 Error: that", (Level::INFO, "stderr", "Error: that", "")),
    ];
    for (line, (level, target, message, fields)) in table {
        assert_eq!(of(line), (level, target.into(), message.into(), fields.into()), "{line}");
    }
}

#[test]
fn other_lines_are_kept() {
    for line in [
        "",
        "hello",
        "Info: hello",
        "I am a line] of text",
        "I1129] x",
        "{\"a\":1}",
        "{broken",
        "a=b level=c",
        "level=info no pairs msg=x",
        "level=info msg=\"open",
        "panic: runtime error",
        "\tmain.go:12",
        "[a] b",
        "2026-11-29T12:00:00Z",
        "2026-11-29T12:00:00Z something else",
        "2026/11/29 12:00:00",
        "\u{1b}[",
    ] {
        let plain = without_escapes(line).into_owned();
        assert_eq!(of(line), (Level::INFO, "stderr".into(), plain, String::new()), "{line}");
    }
    // A logger that knows the host has said it all.
    let line = |target: &str, fields: &str| LogLine {
        level: Level::INFO,
        target: target.into(),
        message: "level=error msg=x".into(),
        fields: fields.into(),
    };
    assert_eq!(read(&line("app", ""))[0].level, Level::INFO);
    assert_eq!(read(&line("stderr", "{}"))[0].level, Level::INFO);
    assert_eq!(read(&line("stdout", ""))[0].level, Level::ERROR);
}

#[test]
fn lines_that_were_printed_together_are_told_apart() {
    let message = "before\n  and more\nlevel=error msg=one\ngoroutine 1:\n\tmain.go:7\nlevel=info msg=two\n".into();
    let printed = LogLine { level: Level::INFO, target: "stderr".into(), message, fields: String::new() };
    let found: Vec<_> = read(&printed).iter().map(|line| (line.level, line.message.clone())).collect();
    let expected =
        [(Level::INFO, "before\n  and more"), (Level::ERROR, "one\ngoroutine 1:\n\tmain.go:7"), (Level::INFO, "two")];
    assert_eq!(found, expected.map(|(level, message)| (level, message.to_owned())));
}
