package rules

// Unconsented returns the near rules that nobody can raise as contacts, groups and roles stand in people: of those that `who` and
// `of` pick, no two may learn of each other. Rules whose `who` or `of` is everybody are not judged, since everybody can't be listed.
// The faults stand at the rules' ids; it is nil if there are none.
func (s *Set) Unconsented(people People) Faults {
	var faults Faults
	for _, r := range s.rules {
		if r.Situation == Near && r.Enabled && r.who.listed() && r.near.of.listed() && !r.meetable(people) {
			f := r.place
			f.Text = "rule \"" + r.ID + "\" is never raised: nobody in its who has a " + r.common() + " in common with anybody in its of (docs/rules.md, Consent)"
			faults = append(faults, f)
		}
	}
	return faults
}

// common names what two people must share for r.
func (r *Rule) common() string {
	if r.contacts {
		return "mutual contact"
	}
	return "group, a role or a mutual contact"
}

// meetable reports whether some two people of a near rule consent to it, or one side is nobody yet, which [Set.Strangers] tells.
// It looks at each person once, and not at each pair.
func (r *Rule) meetable(people People) bool {
	who, of := r.who.members(people), r.near.of.members(people)
	shared := map[string]string{} // group or role: who has it; "" for several
	for _, name := range who {
		p := anyone(people, name)
		for _, c := range p.Contacts {
			if o := anyone(people, c); r.near.of.matches(&o) && mutual(&p, &o) {
				return true
			}
		}
		for _, bond := range p.bonds() {
			if first, again := shared[bond]; again && first != name {
				shared[bond] = ""
			} else {
				shared[bond] = name
			}
		}
	}
	if r.contacts {
		return len(who) == 0 || len(of) == 0
	}
	for _, name := range of {
		p := anyone(people, name)
		for _, bond := range p.bonds() {
			if first, ok := shared[bond]; ok && first != name {
				return true
			}
		}
	}
	return len(who) == 0 || len(of) == 0
}

// bonds returns what makes p acquainted with others who have it, too.
func (p *Person) bonds() []string {
	var bonds []string
	if p.Role != "" {
		bonds = append(bonds, "role "+p.Role)
	}
	for _, g := range p.Groups {
		bonds = append(bonds, "group "+g)
	}
	return bonds
}

// listed reports whether people can list the crowd.
func (c crowd) listed() bool {
	for i := range c {
		if s := &c[i]; len(s.users)+len(s.groups) == 0 && s.role == "" && s.tag == "" {
			return false
		}
	}
	return len(c) > 0
}

// members returns the names that c picks, some of them twice.
func (c crowd) members(people People) []string {
	var names []string
	for i := range c {
		names = append(names, c[i].members(people)...)
	}
	return names
}
