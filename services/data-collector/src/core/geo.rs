//! Distances on the globe, and boxes of latitude and longitude.

/// The mean radius of the earth in metres (IUGG).
const EARTH_RADIUS_METRES: f64 = 6_371_008.8;

/// How far around an airport `live` counts, in metres: 25 nautical miles of 1852 m.
pub const LIVE_RADIUS_METRES: f64 = 25.0 * 1852.0;

/// What a box is widened by on each side, in degrees: about a metre, far above rounding errors.
const MARGIN_DEGREES: f64 = 0.000_01;

/// A place on the globe, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// North is positive; from -90 to 90.
    pub latitude: f64,
    /// East is positive; from -180 to 180.
    pub longitude: f64,
}

/// A box of latitude and longitude that does not cross the antimeridian, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeoBox {
    /// Its southern edge.
    pub south: f64,
    /// Its western edge, not greater than `east`.
    pub west: f64,
    /// Its northern edge.
    pub north: f64,
    /// Its eastern edge.
    pub east: f64,
}

impl Position {
    /// The great-circle distance to `other` in metres (haversine, which is exact enough for short ones).
    #[must_use]
    pub fn metres_to(self, other: Self) -> f64 {
        let (here, there) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_latitude = (there - here) / 2.0;
        let half_longitude = (other.longitude - self.longitude).to_radians() / 2.0;
        let chord = half_latitude.sin().powi(2) + here.cos() * there.cos() * half_longitude.sin().powi(2);
        2.0 * EARTH_RADIUS_METRES * chord.sqrt().min(1.0).asin()
    }

    /// One box, or two where the antimeridian is crossed, around everything within `radius` metres.
    #[must_use]
    pub fn surroundings(self, radius: f64) -> Vec<GeoBox> {
        let angle = radius / EARTH_RADIUS_METRES;
        let reach = angle.to_degrees() + MARGIN_DEGREES;
        let (south, north) = (self.latitude - reach, self.latitude + reach);
        if north >= 90.0 || south <= -90.0 {
            // The circle holds a pole, and with it every longitude.
            return vec![GeoBox { south: south.max(-90.0), west: -180.0, north: north.min(90.0), east: 180.0 }];
        }
        // The widest meridian a circle touches: sin(width) = sin(radius) / cos(latitude).
        let sine = (angle.sin() / self.latitude.to_radians().cos()).min(1.0);
        let width = sine.asin().to_degrees() + MARGIN_DEGREES;
        let (west, east) = (self.longitude - width, self.longitude + width);
        let side = |west, east| GeoBox { south, west, north, east };
        if west < -180.0 {
            vec![side(west + 360.0, 180.0), side(-180.0, east)]
        } else if east > 180.0 {
            vec![side(west, 180.0), side(-180.0, east - 360.0)]
        } else {
            vec![side(west, east)]
        }
    }
}

impl GeoBox {
    /// Its size in square degrees, which decides what asking for it costs.
    #[must_use]
    pub fn square_degrees(&self) -> f64 {
        (self.north - self.south) * (self.east - self.west)
    }

    /// The smallest box around both.
    #[must_use]
    pub fn around(&self, other: &Self) -> Self {
        Self {
            south: self.south.min(other.south),
            west: self.west.min(other.west),
            north: self.north.max(other.north),
            east: self.east.max(other.east),
        }
    }

    /// Whether `position` lies inside or on the edge.
    #[must_use]
    pub fn contains(&self, position: Position) -> bool {
        (self.south..=self.north).contains(&position.latitude) && (self.west..=self.east).contains(&position.longitude)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARIS: Position = Position { latitude: 49.0097, longitude: 2.5479 };
    const SAN_FRANCISCO: Position = Position { latitude: 37.619, longitude: -122.3749 };

    #[test]
    fn distances_are_those_of_the_globe() {
        assert!((PARIS.metres_to(SAN_FRANCISCO) / 1000.0 - 8_970.0).abs() < 30.0);
        assert!(PARIS.metres_to(PARIS) < 0.001);
        let (east, west) =
            (Position { latitude: 0.0, longitude: 179.9 }, Position { latitude: 0.0, longitude: -179.9 });
        assert!((east.metres_to(west) / 1000.0 - 22.24).abs() < 0.01);
    }

    #[test]
    fn a_circle_across_the_antimeridian_has_two_boxes() {
        let taveuni = Position { latitude: -16.69, longitude: -179.877 };
        let boxes = taveuni.surroundings(LIVE_RADIUS_METRES);
        assert_eq!(boxes.len(), 2);
        assert!((boxes[0].east - 180.0).abs() < f64::EPSILON && (boxes[1].west + 180.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_circle_around_a_pole_has_every_longitude() {
        let near_pole = Position { latitude: -89.9, longitude: 10.0 };
        let boxes = near_pole.surroundings(LIVE_RADIUS_METRES);
        assert_eq!((boxes[0].west, boxes[0].east, boxes[0].south), (-180.0, 180.0, -90.0));
    }

    proptest! {
        #[test]
        fn whatever_is_within_the_radius_is_in_a_box(
            latitude in -90.0..=90.0f64, longitude in -180.0..=180.0f64,
            north in -0.6..0.6f64, share in 0.0..1.0f64, side in prop::bool::ANY,
        ) {
            let centre = Position { latitude, longitude };
            let there = (latitude + north).clamp(-90.0, 90.0);
            // Far enough to the side to leave the circle now and then, at any latitude.
            let width = (0.6 / there.to_radians().cos().max(0.004)).min(180.0) * share;
            let shifted = if side { longitude + width } else { longitude - width };
            let wrapped = (shifted + 540.0).rem_euclid(360.0) - 180.0;
            let point = Position { latitude: there, longitude: wrapped };
            if centre.metres_to(point) <= LIVE_RADIUS_METRES {
                let boxes = centre.surroundings(LIVE_RADIUS_METRES);
                prop_assert!(boxes.iter().any(|surroundings| surroundings.contains(point)), "{boxes:?} {point:?}");
            }
        }
    }
}
