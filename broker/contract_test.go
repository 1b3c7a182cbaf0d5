package broker_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// sentence is a sentence of the contract in hooks/hooks.go and the test that fails
// if it does not hold.
type sentence struct {
	of, says string
	test     func(*testing.T)
}

// contract is the contract of package hooks, in the order of its text.
var contract = []sentence{
	{"Authenticator", "Authenticator says who a client is.", authenticatorsAreAskedInOrder},
	{"Authenticator", "Those of a broker are asked in the order of its Config.Hooks until one knows the credentials; with none configured, every client is who it says it is.", func(t *testing.T) { authenticatorsAreAskedInOrder(t); TestOpenModeUsers(t) }},
	{"Authenticator", "ErrNotMine passes on to the next, and after the last one refuses with BadUserNameOrPassword.", authenticatorsAreAskedInOrder},
	{"Authenticator", "A *Refusal refuses with its reason; any other error, and a panic, with UnspecifiedError, and it is logged.", authenticatorsRefuse},
	{"Authenticator", "It runs on a goroutine of the client's connection and may block, which delays this client only; it must be safe for concurrent use.", TestSlowSignInsDelayNobody},
	{"Authenticator", "ctx ends after Limits.Connect, and when the broker closes.", authenticationEnds},
	{"Authenticator", "The Identity that it returns is kept, with the client identifier filled in, and must not be changed any more.", authenticatorsAreAskedInOrder},

	{"Authorizer", "Authorizer says whether a request is allowed: nil is yes, an error (best a *Refusal) is no.", anyNoIsFinal},
	{"Authorizer", "Any no is final, whatever others say, at every protocol level and QoS, for wills and after topic aliases.", anyNoIsFinal},
	{"Authorizer", "A panic is a no, too; it is logged, as is an error that is no *Refusal.", brokenAuthorizersSayNo},
	{"Authorizer", "It runs on a worker or, for a will that is sent and after Broker.Recheck, inside the core; it must be safe for concurrent use and not block.", willsAreAskedAboutTwice},
	{"Authorizer", "One that is slow holds up its publisher, and others only when it has all workers.", slowAuthorizersHoldUpTheirPublisher},
	{"Authorizer", "A subscription is asked about when it is made, and after Broker.Recheck; not again when its session goes on.", subscriptionsAreAskedAboutOnce},

	{"Prompt", "Prompt is an Authorizer that answers from memory, within about a microsecond, and takes no lock that another goroutine holds for long.", promptAuthorizersNeedNoWorker},
	{"Prompt", "If all of a broker's are, whoever reads a connection asks about its publishes, at less cost than a worker; it reads others, too, which wait meanwhile.", promptAuthorizersNeedNoWorker},
	{"Prompt", "Prompt says so; it is not called.", promptAuthorizersNeedNoWorker},

	{"Reader", "Reader reads a hook's committed records from the store, and no other hook's.", readersSeeWhatIsCommitted},
	{"Reader", "It may block on the disk, and is safe for concurrent use.", readersSeeWhatIsCommitted},
	{"Reader", "Get returns the value of key, or nil, false.", readersSeeWhatIsCommitted},
	{"Reader", "Scan calls fn for every record whose key begins with prefix, in key order, until it returns false.", readersSeeWhatIsCommitted},
	{"Reader", "Key and value are valid during the call.", readersSeeWhatIsCommitted},

	{"Gate", "Gate sees a publish before the core, a will when it is sent; what Appliers publish passes none.", gatesSeeClientsPublishes},
	{"Gate", "Those of a broker are asked in the order of its Config.Hooks, each if one of its filters matches the topic as those before have left it.", gatesAreAChain},
	{"Gate", "It runs on a worker, one publish of a connection at a time and in order; there are few workers, so that it may read the store through r, but wait for nothing else.", gatesKeepOrder},
	{"Gate", "It may leave prepared values (decoded payloads, records read) for its Applier.", gatesPrepare},
	{"Gate", "It may replace p.Message, but not write to it; what then stands there is not authorised again.", gatesAreAChain},
	{"Gate", "An error refuses the publish; a panic refuses it with UnspecifiedError and is logged.", gatesRefuse},
	{"Gate", "What a client sends again (DUP) passes it again.", gatesSeeRepeats},
	{"Gate", "Filters are the topic filters of the publishes that it wants to see; they are read when the broker starts, and at Broker.Refilter.", filtersAreReadAgain},
	{"Gate", "Gate looks at one publish.", gatesKeepOrder},
	{"Gate", "ctx ends when the broker closes.", gatesEnd},

	{"Tx", "Tx is what an Applier may do.", txCommitsWhole},
	{"Tx", "All of it commits in the publish's own batch, before the acknowledgement and all else that follows from it leave; if the Applier returns an error, nothing of it is done.", func(t *testing.T) { txCommitsWhole(t); txIsDropped(t) }},
	{"Tx", "It is valid during the call only, and for that goroutine only.", appliersAreOneAfterTheOther},
	{"Tx", "Now is the core's time in Unix milliseconds.", appliersAreOneAfterTheOther},
	{"Tx", "It never runs backwards.", appliersAreOneAfterTheOther},
	{"Tx", "Get returns what this hook last put under key and is not yet known to be readable from the store, nil and true if it deleted it.", txGetSeesWhatIsNotRead},
	{"Tx", "What is older must be read in Gate.", readersSeeWhatIsCommitted},
	{"Tx", "An acknowledgement that rests on what it returned waits until that is committed.", acknowledgementsWaitForWhatWasRead},
	{"Tx", "Put writes a record of this hook.", txCommitsWhole},
	{"Tx", "It copies key and value.", txCommitsWhole},
	{"Tx", "Delete removes a record of this hook; it need not be there.", txGetSeesWhatIsNotRead},
	{"Tx", "Inbox appends an event to the user's inbox: encode is called at once, gets the place and appends the payload to dst.", inboxGivesPlaces},
	{"Tx", "expires is in core time (Unix ms), 0 for never.", TestAnExpiredEventLeavesAGap},
	{"Tx", "It returns a *Refusal, and appends nothing, if the user cannot have an inbox or the commit has no room for the event.", inboxRefuses},
	{"Tx", "Inboxes appends an event to the inboxes of many users: a JSON object, to which the fields seq and epoch of each one's place are added.", inboxesServesAll},
	{"Tx", "It is durable with the publish whatever their number; if they are many they get it in steps that follow, once each, also over a restart.", inboxesSurvivesACrash},
	{"Tx", "What the same client puts into Inboxes later on the same topic comes after it.", inboxesServesAll},
	{"Tx", "A user who cannot have an inbox is left out, counted and logged.", inboxesLeavesOut},
	{"Tx", "It returns a *Refusal, and does nothing, if the users are more than one commit can name or too many wait already.", inboxesRefuses},
	{"Tx", "Publish publishes m to plain subscribers, with no Gate or Authorizer asked, after the Applier has returned.", appliersPublish},
	{"Tx", "Appliers see it with one Depth more; beyond MaxDepth it is dropped and logged.", publishesAreBoundedInDepth},
	{"Tx", "Reply sends m to the sender's own connection only, at QoS 1, if it is still there and listens to m's topic.", repliesGoToTheSender},
	{"Tx", "It is passing: nothing is stored.", repliesGoToTheSender},

	{"Tx", "Read runs look on a worker, where it may read the hook's records, and then calls then inside the core, as it calls Tick.", txReads},
	{"Tx", "Neither runs if the Applier returns an error.", txReads},
	{"Tx", "A panic in one ends the process.", panicsInTheCoreEndTheProcess},

	{"Applier", "Applier runs inside the core, one call after the other though not always on the same goroutine, in the place that the publish has in the one order.", appliersAreOneAfterTheOther},
	{"Applier", "It must be deterministic, must not block, read no disk and take no lock that another goroutine holds for long, and return within about a millisecond.", appliersAreOneAfterTheOther},
	{"Applier", "What it may keep: its own state, which only it writes, and which Restore rebuilds.", appliersAreRestored},
	{"Applier", "Those of a broker are asked in the order of its Config.Hooks.", appliersAreAChain},
	{"Applier", "An error refuses the publish: the Appliers after it are not asked, what those before it wrote stays, and its own state must be as it was.", appliersAreAChain},
	{"Applier", "A panic ends the process, since its state can't be trusted any more.", panicsInTheCoreEndTheProcess},
	{"Applier", "Name keys the hook's records in the store; it must never change.", appliersAreRestored},
	{"Applier", "Two hooks of one name, or an empty one, are refused when the broker is made.", namesAreTheirOwn},
	{"Applier", "Filters are the topic filters of the publishes that it applies, read as those of a Gate.", filtersAreReadAgain},
	{"Applier", "Restore is called once, before all else, with the committed records and the core's time.", appliersAreRestored},
	{"Applier", "A *Damage names records that it can't read and goes on without: they are logged, counted and deleted.", damageIsDiscarded},
	{"Applier", "Any other error ends the start.", damageIsDiscarded},
	{"Applier", "Apply is called for each publish that a filter matches, also for a will and for one from inside.", appliersSeePublishesFromInside},
	{"Applier", "Tick is called about once a second, and before that at the time it returned last; it returns the core time at which it wants to be called next, 0 for no wish.", ticksComeInTime},

	{"Tree", "Tree is implemented by a hook that owns topic trees, such as `users/…`.", treesAreGuarded},
	{"Tree", "What is published in one reaches a subscriber only if the hook says so, all hooks that own it.", treesAreGuarded},
	{"Tree", "A filter whose first level is a wildcard does not see it, unless the hook is a [WideTree] that says so.", treesAreGuarded},
	{"Tree", "A publish does not go back to the connection that sent it.", treesAreGuarded},
	{"Tree", "No will is retained there, and at most QoS 1 is granted.", treesKeepNoWill},
	{"Tree", "Trees are the first topic levels that it owns; read once, at start.", treesAreGuarded},
	{"Tree", "MaySee reports whether user (empty for an anonymous one) may be sent what is published on topic, a topic name in one of its trees.", treesAreGuarded},
	{"Tree", "It is asked for each recipient when the publish is applied, so that a consent that ends stops what follows at its place in the order, and for each retained message when it is sent.", consentEndsInOrder},
	{"Tree", "It runs inside the core and must not block.", panicsInTheCoreEndTheProcess},
	{"Tree", "A panic ends the process.", panicsInTheCoreEndTheProcess},

	{"WideTree", "WideTree is a Tree that shows itself to some users by filters whose first level is a wildcard, too.", wideTreesAreSeen},
	{"WideTree", "If several hooks own a tree, all of them must be one and say so.", wideTreesAreSeen},
	{"WideTree", "SeesWide reports whether such a filter, without $share and a group's name, shows user the trees; which of their topics is for MaySee to say.", wideTreesAreSeen},
	{"WideTree", "It is asked when MaySee is, and as it is.", wideTreesAreSeen},

	{"Observer", "Observer hears of events after their commit, on a goroutine of its own, in the order in which they took effect.", observersHearWhatIsCommitted},
	{"Observer", "It delays nothing: its queue is bounded, and events that it is too slow for are dropped and counted.", observersDelayNothing},
	{"Observer", "A panic is logged and the event skipped.", observersMayPanic},
	{"Observer", "Closing the broker waits until it has heard what is queued.", observersHearWhatIsCommitted},
	{"Observer", "Observe is told of one event at a time.", observersHearWhatIsCommitted},
}

func TestContractOfHooks(t *testing.T) {
	for _, s := range contract {
		t.Run(s.of+"/"+s.says, s.test)
	}
}

// What the contract says and the table above must not part.
func TestEverySentenceOfTheContractHasATest(t *testing.T) {
	have := make(map[[2]string]bool)
	for _, s := range contract {
		have[[2]string{s.of, s.says}] = true
	}
	for _, s := range sentences(t) {
		if !have[s] {
			t.Errorf("no test: %s: %q", s[0], s[1])
		}
		delete(have, s)
	}
	for s := range have {
		t.Errorf("not in hooks.go any more: %s: %q", s[0], s[1])
	}
}

// sentences are those of the interfaces of hooks.go and their methods.
func sentences(t *testing.T) (all [][2]string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../hooks/hooks.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	end := regexp.MustCompile(`\.( |$)`)
	add := func(of string, doc *ast.CommentGroup) {
		text := strings.Join(strings.Fields(doc.Text()), " ")
		for _, s := range strings.Split(end.ReplaceAllString(text, ".\n"), "\n") {
			if s != "" {
				all = append(all, [2]string{of, s})
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		d, ok := n.(*ast.GenDecl)
		if !ok || d.Tok != token.TYPE {
			return true
		}
		spec := d.Specs[0].(*ast.TypeSpec)
		if i, ok := spec.Type.(*ast.InterfaceType); ok {
			add(spec.Name.Name, d.Doc)
			for _, m := range i.Methods.List {
				add(spec.Name.Name, m.Doc)
			}
		}
		return false
	})
	return all
}
