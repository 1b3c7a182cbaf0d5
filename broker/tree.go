package broker

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/geocast/geocast/hooks"
)

// restoreTrees asks the hooks which topic trees they own.
func (c *core) restoreTrees() error {
	c.trees = make(map[string][]hooks.Tree)
	for _, x := range c.cfg.Hooks {
		t, ok := x.(hooks.Tree)
		if !ok {
			continue
		}
		for _, level := range t.Trees() {
			c.trees[level] = append(c.trees[level], t)
		}
	}
	return nil
}

// inTree reports whether a hook owns the topic, or topic filter, by its first level.
func (c *core) inTree(topic string) bool {
	if len(c.trees) == 0 {
		return false
	}
	first, _, _ := strings.Cut(topic, "/")
	return len(c.trees[first]) > 0
}

// sees reports whether a session's subscription shows it a topic of a tree.
func (c *core) sees(s *session, filter, topic string) bool {
	first, _, _ := strings.Cut(topic, "/")
	return c.seesTree(s, filter, first) && c.maySee(s.key.user, topic)
}

// seesTree reports whether a session's filter, without $share and a group's name, reaches
// into a tree: if it begins with a wildcard, all hooks that own the tree must say so.
func (c *core) seesTree(s *session, filter, tree string) bool {
	return !wildFirst(filter) || !slices.ContainsFunc(c.trees[tree], func(t hooks.Tree) bool {
		w, ok := t.(hooks.WideTree)
		return !ok || !w.SeesWide(s.key.user, filter)
	})
}

// maySee asks every hook that owns the topic's tree: any no is final.
func (c *core) maySee(user, topic string) bool {
	first, _, _ := strings.Cut(topic, "/")
	for _, t := range c.trees[first] {
		if !t.MaySee(user, topic) {
			return false
		}
	}
	return true
}

// groupSees reports whether all members of a shared subscription may see a topic
// of a tree by its filter: nobody gets by turns what is not meant for all of them.
func (c *core) groupSees(g *group, filter, topic string) bool {
	return !slices.ContainsFunc(g.members, func(s *session) bool { return !c.sees(s, filter, topic) })
}

// tellBlind logs, once for a session, that a filter does not show it the trees; inside
// is the filter without $share and a group's name.
func (c *core) tellBlind(s *session, filter, inside string) {
	if !wildFirst(inside) || s.told {
		return
	}
	var unseen []string
	for tree := range c.trees {
		if !c.seesTree(s, inside, tree) {
			unseen = append(unseen, tree)
		}
	}
	if len(unseen) == 0 {
		return
	}
	slices.Sort(unseen)
	s.told = true
	c.b.often.some(slog.LevelInfo, "a filter that begins with a wildcard does not see the topic trees", "client", short(s.key.client),
		"user", short(s.key.user), "filter", short(filter), "trees", strings.Join(unseen, " "))
}

// wildFirst reports whether a filter's first level is a wildcard.
func wildFirst(filter string) bool {
	return strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")
}
