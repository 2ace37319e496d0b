//! The table on a terminal, refreshed until `q`.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table, TableState};
use wasmop_core::status::state::State;
use wasmop_host::status::Overview;

use super::rows::{COLUMNS, SortBy, rows, sort};
use super::{fetch, fitting};
use crate::output;

/// The interval between checks for keys.
const POLL: Duration = Duration::from_millis(100);
const KEYS: [&str; 4] = ["q quit", "← → sort", "r reverse", "↑ ↓ scroll"];

/// The state of the screen.
struct Screen {
    address: String,
    now: Overview,
    before: Option<Overview>,
    /// Why the last request failed.
    problem: Option<String>,
    by: SortBy,
    reversed: bool,
    place: TableState,
}

/// Polls the host on its own thread, so that keys work during a slow request.
fn poll_host(address: String, interval: Duration) -> Receiver<anyhow::Result<Overview>> {
    let (tx, rx) = mpsc::sync_channel(1);
    thread::spawn(move || {
        loop {
            thread::sleep(interval);
            if tx.send(fetch::overview(&address)).is_err() {
                return;
            }
        }
    });
    rx
}

/// Shows the table until the user quits.
pub fn show(address: &str, interval: Duration, by: SortBy, first: Overview) -> io::Result<()> {
    let answers = poll_host(address.into(), interval);
    let mut screen = Screen {
        address: address.into(),
        now: first,
        before: None,
        problem: None,
        by,
        reversed: false,
        place: TableState::default().with_selected(0),
    };
    let mut terminal = ratatui::try_init()?;
    let ended = loop {
        if let Err(error) = terminal.draw(|frame| screen.draw(frame)) {
            break Err(error);
        }
        match screen.next(&answers) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    ratatui::try_restore()?;
    ended
}

impl Screen {
    /// Waits for a key or a response. Returns `false` to quit.
    fn next(&mut self, answers: &Receiver<anyhow::Result<Overview>>) -> io::Result<bool> {
        let started = Instant::now();
        loop {
            if event::poll(POLL)? {
                return match event::read()? {
                    Event::Key(key) if key.kind == KeyEventKind::Press => Ok(self.on_key(key)),
                    _ => Ok(true),
                };
            }
            match answers.recv_timeout(Duration::ZERO) {
                Ok(answer) => {
                    self.on_answer(answer);
                    return Ok(true);
                }
                Err(RecvTimeoutError::Timeout) if started.elapsed() < Duration::from_secs(1) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(true),
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
    }

    fn on_answer(&mut self, answer: anyhow::Result<Overview>) {
        match answer {
            Ok(overview) => {
                self.before = Some(std::mem::replace(&mut self.now, overview));
                self.problem = None;
            }
            Err(error) => self.problem = Some(error.to_string()),
        }
    }

    /// Returns `false` to quit.
    fn on_key(&mut self, key: KeyEvent) -> bool {
        let columns = SortBy::value_variants();
        let at = columns.iter().position(|by| *by == self.by).unwrap_or(0);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Right | KeyCode::Char('s') => self.by = columns[(at + 1) % columns.len()],
            KeyCode::Left => self.by = columns[(at + columns.len() - 1) % columns.len()],
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Down | KeyCode::Char('j') => self.place.scroll_down_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.place.scroll_up_by(1),
            KeyCode::PageDown => self.place.scroll_down_by(20),
            KeyCode::PageUp => self.place.scroll_up_by(20),
            KeyCode::Home => self.place.select_first(),
            KeyCode::End => self.place.select_last(),
            _ => {}
        }
        true
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let [head, table, foot] =
            Layout::vertical([Constraint::Length(3), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
        frame.render_widget(Paragraph::new(self.head(head.width)), head);
        let keys = fitting::line(KEYS, "   ", foot.width);
        frame.render_widget(Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)), foot);
        let mut rows = rows(&self.now, self.before.as_ref());
        sort(&mut rows, self.by);
        if self.reversed {
            rows.reverse();
        }
        let wall = self.now.host.timestamp_seconds;
        let cells: Vec<_> = rows.iter().map(|row| COLUMNS.map(|column| (column.cell)(row, wall))).collect();
        let natural: [u16; COLUMNS.len()] = std::array::from_fn(|column| {
            let longest = cells.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
            longest.max(COLUMNS[column].title.len() + 1) as u16
        });
        let shown = fitting::fit(&natural, table.width, self.by);
        let widths = shown.iter().map(|(_, width)| Constraint::Length(*width));
        let titles = shown.iter().map(|(column, _)| match &COLUMNS[*column] {
            column if column.by == self.by => {
                Cell::from(format!("{}{}", column.title, if self.reversed { "▴" } else { "▾" })).style(Modifier::BOLD)
            }
            column => Cell::from(column.title),
        });
        let lines = rows.iter().zip(&cells).map(|(row, cells)| {
            let color = match row.status.state {
                State::Resident => Style::new().fg(Color::Green),
                State::Busy => Style::new().fg(Color::Yellow),
                State::Failed => Style::new().fg(Color::Red),
                State::Suspended | State::Standby => Style::new().add_modifier(Modifier::DIM),
            };
            let failing = if row.status.conditions.is_empty() { Style::new() } else { Style::new().fg(Color::Red) };
            TableRow::new(shown.iter().map(move |(column, width)| {
                let cell = Cell::from(fitting::cut(&cells[*column], *width));
                match COLUMNS[*column].by {
                    SortBy::State => cell.style(color),
                    SortBy::LastError => cell.style(failing),
                    _ => cell,
                }
            }))
        });
        let drawn = Table::new(lines, widths)
            .header(TableRow::new(titles).style(Style::new().add_modifier(Modifier::REVERSED)))
            .column_spacing(fitting::SPACING)
            .row_highlight_style(Style::new().add_modifier(Modifier::UNDERLINED));
        frame.render_stateful_widget(drawn, table, &mut self.place);
    }

    /// The host's status, the most important first, as far as it fits.
    fn head(&self, room: u16) -> Vec<Line<'_>> {
        let host = &self.now.host;
        let budget = host.memory_budget_bytes.map_or(String::new(), |b| format!(" of {}", output::bytes(b)));
        let seconds = Duration::from_secs_f64(host.uptime_seconds.max(0.0));
        let first = [
            self.address.clone(),
            format!("process {}", output::bytes(host.process.resident_memory_bytes)),
            format!("up {}", output::duration(seconds)),
            format!("CPU {:.1} s", host.process.cpu_seconds),
            format!("wasmop {}", host.version),
            format!("{} watches", host.watches.iter().filter(|w| !w.follows).count()),
            format!("{} objects", host.watches.iter().map(|w| w.objects).sum::<u64>()),
        ];
        let second = [
            format!("{} controllers", self.now.controllers.len()),
            format!("{} resident", host.resident),
            format!("{} busy", host.busy),
            format!("{} suspended", host.suspended),
            format!("instances {}{budget}", output::bytes(host.resident_bytes)),
            format!("on disk {}", output::bytes(host.disk_bytes)),
            format!("spare {}", output::bytes(host.spare_bytes)),
        ];
        let third = match (&self.problem, host.not_ready.first()) {
            (Some(problem), _) => Span::styled(problem.as_str(), Style::new().fg(Color::Red)),
            (None, Some(reason)) => Span::styled(format!("not ready: {reason}"), Style::new().fg(Color::Yellow)),
            (None, None) => Span::raw(""),
        };
        let line = |parts: &[String], separator| fitting::line(parts.iter().map(String::as_str), separator, room);
        vec![Line::raw(line(&first, "  ")), Line::raw(line(&second, ", ")), Line::from(third)]
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::rows::tests::overview;

    fn screen() -> Screen {
        Screen {
            address: "127.0.0.1:8080".into(),
            now: overview(1000.0),
            before: None,
            problem: None,
            by: SortBy::Name,
            reversed: false,
            place: TableState::default(),
        }
    }

    fn drawn(screen: &mut Screen) -> String {
        let mut terminal = Terminal::new(TestBackend::new(150, 10)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn press(screen: &mut Screen, code: KeyCode) -> bool {
        screen.on_key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn the_table_shows_every_controller_in_the_chosen_order() {
        let mut screen = screen();
        let place = |text: &str, name: &str| text.find(name).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        let text = drawn(&mut screen);
        assert!(place(&text, "backup") < place(&text, "certs") && place(&text, "certs") < place(&text, "website"));
        assert!(text.contains("SnapshotFailing=DiskFull") && text.contains("NAME▾"), "{text}");
        assert!(press(&mut screen, KeyCode::Left));
        let text = drawn(&mut screen);
        assert!(place(&text, "certs") < place(&text, "backup") && text.contains("LAST ERROR▾"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_shows_the_important_columns() {
        for (width, shown, left_out) in [
            (40, &["NAME", "STATE", "RESIDENT", "suspended", "3 controllers", "q quit"][..], "DISK"),
            (60, &["RESIDENT", "QUEUE", "3.0MiB", "0+2", "SnapshotFailing"], "WRITTEN"),
            (80, &["QUEUE", "LAST ERROR", "SnapshotFailing=DiskFull"], "WRITTEN"),
            (120, &["DISK", "ERRORS", "RECONCILES", "RESTARTS"], "WRITTEN"),
        ] {
            let mut terminal = Terminal::new(TestBackend::new(width, 10)).unwrap();
            terminal.draw(|frame| screen().draw(frame)).unwrap();
            let text = terminal.backend().to_string();
            for needle in shown {
                assert!(text.contains(needle), "{width}: no {needle} in\n{text}");
            }
            assert!(!text.contains(left_out), "{width}: {left_out} is in\n{text}");
        }
    }

    #[test]
    fn an_unreachable_host_is_reported_above_the_last_table() {
        let mut screen = screen();
        screen.on_answer(Err(anyhow::anyhow!("no host answers at 127.0.0.1:8080")));
        let text = drawn(&mut screen);
        assert!(text.contains("no host answers") && text.contains("website"), "{text}");
        screen.on_answer(Ok(overview(1002.0)));
        let text = drawn(&mut screen);
        assert!(!text.contains("no host answers") && text.contains("5 0.0/s"), "{text}");
    }

    #[test]
    fn q_quits_and_other_keys_do_not() {
        let mut screen = screen();
        for code in [KeyCode::Down, KeyCode::End, KeyCode::PageUp, KeyCode::Char('r'), KeyCode::Char('x')] {
            assert!(press(&mut screen, code));
            drawn(&mut screen);
        }
        assert!(!press(&mut screen, KeyCode::Char('q')));
        assert!(!screen.on_key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }
}
