//! The sizes of the frontier.

/// The size of a picture and of its text, in pixels.
#[derive(Clone, Copy)]
pub struct Frame {
    pub width: f64,
    pub height: f64,
    pub text: f64,
    /// Its class in the style sheet.
    pub class: &'static str,
}

impl Frame {
    /// Beside a column of text.
    pub const WIDE: Self = Self { width: 880.0, height: 540.0, text: 14.0, class: "frontier wide" };
    /// On a phone.
    pub const NARROW: Self =
        Self { width: 380.0, height: 430.0, text: 12.0, class: "frontier narrow" };
    /// One of many.
    pub const SMALL: Self = Self { width: 300.0, height: 250.0, text: 11.0, class: "panel" };

    pub const LEFT: f64 = 46.0;
    pub const TOP: f64 = 34.0;

    /// Whether it is one of many.
    pub fn is_small(&self) -> bool {
        self.class == Self::SMALL.class
    }

    /// Where the axes end.
    pub fn right(&self) -> f64 {
        self.width - 16.0
    }

    /// Where the x axis is.
    pub fn bottom(&self) -> f64 {
        self.height - 54.0
    }
}
