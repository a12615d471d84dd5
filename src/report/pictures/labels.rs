//! Finds room for labels beside the marks of a picture.

/// A rectangle.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Spot {
    /// A square around a place.
    pub fn around(x: f64, y: f64, radius: f64) -> Self {
        Self { left: x - radius, right: x + radius, top: y - radius, bottom: y + radius }
    }

    fn shared_area(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    fn holds(&self, other: &Self) -> bool {
        other.left >= self.left
            && other.right <= self.right
            && other.top >= self.top
            && other.bottom <= self.bottom
    }
}

/// Spots along a line, which a label should not cover.
pub fn along(places: &[(f64, f64)]) -> Vec<Spot> {
    let mut spots = Vec::new();
    for pair in places.windows(2) {
        let [(ax, ay), (bx, by)] = [pair[0], pair[1]];
        let pieces = ((bx - ax).hypot(by - ay) / 6.0).ceil().min(200.0);
        for piece in 0..pieces as usize {
            let share = piece as f64 / pieces;
            spots.push(Spot::around(ax + share * (bx - ax), ay + share * (by - ay), 2.0));
        }
    }
    spots
}

/// The spot of the given size that lies within `area`, near one of `anchors`, the earlier the
/// better, and covers the least of what is taken. None if none is within.
pub fn free_spot(
    anchors: &[(f64, f64)],
    [width, height]: [f64; 2],
    area: &Spot,
    taken: &[Spot],
) -> Option<Spot> {
    const SIDES: [(f64, f64); 8] = [
        (1.0, 0.0),
        (1.0, 1.0),
        (1.0, -1.0),
        (0.0, -1.0),
        (0.0, 1.0),
        (-1.0, 0.0),
        (-1.0, -1.0),
        (-1.0, 1.0),
    ];
    let mut found: Option<(f64, Spot)> = None;
    for (index, (x, y)) in anchors.iter().enumerate() {
        for distance in [10.0, 16.0, 26.0, 40.0] {
            for (dx, dy) in SIDES {
                let left = x + dx * distance - width * (1.0 - dx) / 2.0;
                let top = y + dy * distance - height * (1.0 - dy) / 2.0;
                let spot = Spot { left, right: left + width, top, bottom: top + height };
                if !area.holds(&spot) {
                    continue;
                }
                let covered: f64 = taken.iter().map(|it| spot.shared_area(it)).sum();
                let cost = 2.0 * covered + distance * 1.5 + index as f64 * 12.0;
                if found.is_none_or(|(least, _)| cost < least) {
                    found = Some((cost, spot));
                }
            }
        }
    }
    found.map(|(_, spot)| spot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_avoids_what_is_drawn_and_stays_within_the_picture() {
        let area = Spot { left: 0.0, right: 200.0, top: 0.0, bottom: 100.0 };
        let taken = [Spot { left: 60.0, right: 140.0, top: 30.0, bottom: 70.0 }];
        let spot = free_spot(&[(50.0, 50.0)], [40.0, 12.0], &area, &taken).unwrap();
        assert_eq!(spot.shared_area(&taken[0]), 0.0, "{spot:?}");
        assert!(area.holds(&spot));
        assert!(free_spot(&[(50.0, 50.0)], [400.0, 12.0], &area, &[]).is_none());
    }
}
