use crate::interrupt::Interrupt;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use slaf::ProgressEvent;
use std::fmt::Write;

const TEMPLATE: &str = "{msg:<12} [{bar:32}] {human_pos} of {human_len} cells, {rate}, {eta} left";

/// Until the number of cells is known there is nothing to measure.
const BEFORE: &str = "{msg}";

/// The bar of a conversion or an export; clones are one bar. It is seen only where the standard error is a terminal.
#[derive(Clone)]
pub(crate) struct Bar {
    bar: ProgressBar,
    interrupt: Interrupt,
}

fn style(total: u64) -> ProgressStyle {
    let template = if total == 0 { BEFORE } else { TEMPLATE };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ").with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
        // Nobody is told when writing to the terminal fails.
        let _ = out.write_str(&rate(state.per_sec()));
    })
}

/// A speed in whole cells.
fn rate(per_second: f64) -> String {
    match per_second {
        n if n >= 1.0 => format!("{} cells/s", indicatif::HumanCount(n.round() as u64)),
        _ => "less than 1 cell/s".to_owned(),
    }
}

impl Bar {
    pub(crate) fn new(interrupt: Interrupt) -> Bar {
        Bar { bar: ProgressBar::new(0).with_style(style(0)), interrupt }
    }

    /// Draws, and says whether to go on.
    pub(crate) fn update(&self, event: ProgressEvent) -> bool {
        if self.bar.length() != Some(event.cells_total) {
            self.bar.set_length(event.cells_total);
            self.bar.set_style(style(event.cells_total));
        }
        if self.bar.message() != event.phase {
            self.bar.set_message(event.phase);
            self.bar.reset_eta();
        }
        self.bar.set_position(event.cells_done);
        !self.interrupt.came()
    }

    /// Takes the bar from the terminal.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::{ProgressDrawTarget, TermLike};
    use std::io;
    use std::sync::{Arc, Mutex};

    /// What was drawn last.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().clear();
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bars_count_whole_cells_and_nothing_of_nothing() {
        let screen = Screen::default();
        let interrupt = Interrupt::new().unwrap();
        let bar = Bar::new(interrupt);
        bar.bar.set_draw_target(ProgressDrawTarget::term_like(Box::new(screen.clone())));
        let seen = |phase, cells_done, cells_total| {
            bar.update(ProgressEvent { phase, cells_done, cells_total });
            bar.bar.tick();
            screen.0.lock().unwrap().trim().to_owned()
        };
        assert_eq!(seen("opening", 0, 0), "opening");
        let counted = seen("cells", 1_500, 3_000);
        assert!(counted.contains("1,500 of 3,000 cells"), "{counted}");
        let (speed, _) = counted.split_once(" cells/s").unwrap();
        assert!(!speed.rsplit(' ').next().unwrap().contains('.'), "{counted}");
        assert_eq!((rate(0.3), rate(1_234.6)), ("less than 1 cell/s".into(), "1,235 cells/s".into()));
    }
}
