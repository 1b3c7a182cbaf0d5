// Package rules turns a rules file (YAML) and a stream of fixes into events: who entered which zone, who came near whom, and
// exactly which users are told.
//
//	set, err := rules.Load("rules.yaml")           // every error of the file, with line and column
//	engine := rules.New(set, people)
//	for _, record := range saved { ... }           // engine.Restore(saved) after a restart
//	events, records := engine.Step(fix)            // store records with the events, then deliver
//
// The engine is pure: no goroutine, clock, I/O or log. The same fixes in the same order give the same events and the same state
// records, in the same order. It is not safe for concurrent use; its owner calls it from one goroutine.
//
// # What the words mean
//
// A tracker is inside a circle when its distance to the centre is at most the radius, and inside a polygon when it is in it or on
// its edge. Accuracy does not widen a zone; use `if: "fix.acc < 100"` to ask for good fixes.
//
// Each tracker has its own event time, the tst of its newest fix. A fix that is older (late) or as old (a duplicate) changes
// nothing and raises nothing. A tst more than two minutes ahead of the arrival counts as the arrival, so that a wrong clock can't
// silence a tracker.
//
//   - enter: the first fix inside after a fix outside. The first fix of a tracker, and the first after its zone was added or
//     changed, counts as coming from outside: unknown to inside is an enter, unknown to outside is nothing.
//   - exit: the first fix outside after a fix inside.
//   - inside: every fix inside, the first included.
//   - near: two users meet: one reports at most `within` from the last position of the other. It is raised once per pair of users,
//     whoever moved, and again only after they were more than `apart` from each other (1.2 × within if not given). A position that
//     is older than `max_age` (30 minutes if not given) makes no meeting. Several trackers of one user count as one user.
//     A rule whose two sides match both users is symmetric: the user who moved is `who`.
//
// `if` is asked at the fix that raises the event; when the answer is no, that enter, exit or meeting is over without an event. A
// field that the fix does not carry is not a number: every comparison with it but != is false. An acc of 0 counts as not carried.
//
// `self` is the user whose fix it is; in a near rule, each of the two who matches the rule's `who` while the other matches `of`.
// Unless `consent: contacts` asks for it always, a near rule needs mutual contacts only between users that have no group or role
// in common. `consent: contacts` in any rule also narrows the recipients to the subject and its mutual contacts.
//
// What it does not do yet: the words dwell, absent, cross, part, silent and the like, clear, during, throttle and precision are
// refused by name.
package rules
