use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

const NOON: &str = "2026-11-20T12:00:00Z";

#[test]
fn a_header_is_believed_over_the_tier() {
    let credits = Credits::assumed(Tier::Anonymous, at(NOON));
    assert_eq!(credits.after_call(1, None, at(NOON)).remaining, 399);
    let told = credits.after_call(1, Some(7_999), at(NOON));
    assert_eq!((told.remaining, told.from_header, told.seen_cost), (7_999, true, None));
}

#[test]
fn two_headers_in_a_row_show_the_real_cost() {
    let told = |credits: Credits, left| credits.after_call(30, Some(left), at(NOON));
    let credits = told(told(Credits::assumed(Tier::Standard, at(NOON)), 3_996), 3_992);
    assert_eq!(credits.flights_cost(), 4);
    assert_eq!(told(credits, 3_992).flights_cost(), 4, "a free call shows nothing");
    assert_eq!(told(credits, 4_000).flights_cost(), 4, "nor does a bucket that was filled");
    assert_eq!(told(credits, 100).flights_cost(), 4, "nor what somebody else has spent");
}

#[test]
fn a_new_day_fills_the_bucket_and_ends_every_pause() {
    let spent = Credits { remaining: 0, ..Credits::assumed(Tier::Standard, at(NOON)) };
    let refused = spent.after_refusal(at(NOON), Some(38_715));
    assert_eq!(refused.at(Bucket::States, Tier::Standard, at("2026-11-20T20:00:00Z")), refused);
    let late = spent.after_refusal(at("2026-11-20T23:00:00Z"), Some(7_200));
    assert_eq!(late.paused_until, Some(at("2026-11-21T00:00:00Z")));
    let next_day = late.at(Bucket::States, Tier::Standard, at("2026-11-21T00:00:00Z"));
    assert_eq!((next_day.remaining, next_day.paused_until), (4_000, None));
}

#[test]
fn a_pause_that_an_older_version_stored_ends_with_its_day() {
    let week = Some(at("2026-11-27T12:00:00Z"));
    let old = Credits { paused_until: week, ..Credits::assumed(Tier::Standard, at(NOON)) };
    let now = old.at(Bucket::States, Tier::Standard, at("2026-11-20T13:00:00Z"));
    assert_eq!(now.affordable_at(1, at("2026-11-20T13:00:00Z")), at("2026-11-21T00:00:00Z"));
    for later in ["2026-11-21T00:00:00Z", "2026-11-23T08:00:00Z"] {
        assert_eq!(old.at(Bucket::States, Tier::Standard, at(later)).paused_until, None, "{later}");
    }
}

#[test]
fn what_a_clock_that_was_ahead_has_stored_is_unknown() {
    let refused = |when| {
        let then = Credits { remaining: 7, ..Credits::assumed(Tier::Standard, at(when)) };
        then.after_refusal(at(when), Some(600)).at(Bucket::States, Tier::Standard, at(NOON))
    };
    assert_eq!(refused("2026-11-20T18:00:00Z").paused_until, None, "six hours ahead");
    let years = refused("2031-11-20T12:00:00Z");
    assert_eq!((years.day, years.remaining, years.paused_until), (at(NOON).date_naive(), 4_000, None));
    assert!(refused("2026-11-20T12:00:30Z").paused_until.is_some(), "another machine's clock may differ a little");
}

#[test]
fn a_header_that_leaves_nothing_is_doubted_after_an_hour_and_believed_again_when_it_is_repeated() {
    let told = |left| Credits::assumed(Tier::Standard, at(NOON)).after_call(1, Some(left), at(NOON));
    let later = |credits: Credits, bucket, time| credits.at(bucket, Tier::Standard, at(time)).remaining;
    assert_eq!(later(told(0), Bucket::States, "2026-11-20T12:59:59Z"), 0);
    assert_eq!(later(told(0), Bucket::States, "2026-11-20T13:00:00Z"), 1_833, "an even share");
    assert_eq!(later(told(29), Bucket::Flights, "2026-11-20T13:00:00Z"), 1_833);
    assert_eq!(later(told(29), Bucket::States, "2026-11-20T13:00:00Z"), 29, "that is enough for a call");
    let again = at("2026-11-20T13:00:00Z");
    let repeated = told(0).at(Bucket::States, Tier::Standard, again).after_call(1, Some(0), again);
    assert_eq!(later(repeated, Bucket::States, "2026-11-20T13:30:00Z"), 0);
    let spent = Credits { remaining: 0, ..Credits::assumed(Tier::Standard, at(NOON)) };
    assert_eq!(later(spent, Bucket::States, "2026-11-20T20:00:00Z"), 0, "our own arithmetic is not doubted");
}

#[test]
fn credits_may_rise_and_be_more_than_there_can_be() {
    let told = |credits: Credits, left| credits.after_call(1, Some(left), at(NOON));
    let credits = told(told(Credits::assumed(Tier::Standard, at(NOON)), 100), 5_000);
    assert_eq!((credits.remaining, credits.seen_cost), (5_000, None));
    assert_eq!(told(credits, u32::MAX).remaining, u32::MAX);
}

#[test]
fn a_refusal_pauses_as_long_as_it_says_and_an_hour_when_it_does_not_but_never_past_midnight() {
    let credits = Credits::assumed(Tier::Standard, at(NOON));
    let until = |seconds| credits.after_refusal(at(NOON), seconds).affordable_at(1, at(NOON));
    assert_eq!(until(Some(38_715)), at("2026-11-20T22:45:15Z"));
    assert_eq!(until(None), at("2026-11-20T13:00:00Z"));
    assert_eq!(until(Some(604_800)), at("2026-11-21T00:00:00Z"));
    assert_eq!(until(Some(u64::MAX)), at("2026-11-21T00:00:00Z"));
    assert_eq!(until(Some(0)), at("2026-11-20T12:00:01Z"));
}

#[test]
fn refusals_in_a_row_pause_longer_and_longer_and_an_answer_ends_the_row() {
    let mut credits = Credits::assumed(Tier::Standard, at(NOON));
    let pauses: Vec<i64> = (0..40)
        .map(|_| {
            credits = credits.after_refusal(at(NOON), Some(0));
            (credits.affordable_at(1, at(NOON)) - at(NOON)).num_seconds()
        })
        .collect();
    assert_eq!((pauses[0], pauses[1], pauses[5], pauses[11], pauses[39]), (1, 2, 32, 2_048, 3_600));
    let answered = credits.after_call(1, None, at(NOON)).after_refusal(at(NOON), Some(5));
    assert_eq!(answered.affordable_at(1, at(NOON)), at("2026-11-20T12:00:05Z"));
}

#[test]
fn an_empty_bucket_waits_for_midnight() {
    let empty = Credits { remaining: 3, ..Credits::assumed(Tier::Standard, at(NOON)) };
    assert_eq!(empty.affordable_at(3, at(NOON)), at(NOON));
    assert_eq!(empty.affordable_at(4, at(NOON)), at("2026-11-21T00:00:00Z"));
}

#[test]
fn the_reserve_melts_with_the_day() {
    assert_eq!(Credits::reserve(Tier::Standard, at("2026-11-20T00:00:00Z")), 200);
    assert_eq!(Credits::reserve(Tier::Standard, at(NOON)), 100);
    assert_eq!(Credits::reserve(Tier::Standard, at("2026-11-20T23:59:59Z")), 0);
}

#[test]
fn a_box_costs_by_its_size() {
    let cost = |width, height| states_cost(&GeoBox { south: 0.0, north: height, west: 0.0, east: width });
    assert_eq!([cost(5.0, 5.0), cost(5.1, 5.0), cost(10.0, 10.0), cost(20.0, 20.0)], [1, 2, 2, 3]);
    assert_eq!([cost(20.1, 20.0), cost(360.0, 180.0)], [4, 4]);
}
