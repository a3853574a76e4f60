use crate::interrupt::Interrupt;
use indicatif::{ProgressBar, ProgressStyle};
use slaf::ProgressEvent;

const TEMPLATE: &str = "{msg:<12} [{bar:32}] {human_pos} of {human_len} cells, {per_sec}, {eta} left";

/// The bar of a conversion or an export. It is seen only where the standard error is a terminal.
pub(crate) struct Bar<'a> {
    bar: ProgressBar,
    interrupt: &'a Interrupt,
}

impl<'a> Bar<'a> {
    pub(crate) fn new(interrupt: &'a Interrupt) -> Bar<'a> {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar { bar, interrupt }
    }

    /// Draws, and says whether to go on.
    pub(crate) fn update(&self, event: ProgressEvent) -> bool {
        if self.bar.message() != event.phase {
            self.bar.set_message(event.phase);
            self.bar.reset_eta();
        }
        self.bar.set_length(event.cells_total);
        self.bar.set_position(event.cells_done);
        !self.interrupt.is_pressed()
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
