package users

import (
	"fmt"
	"maps"
	"slices"

	"github.com/geocast/geocast/strictyaml"
)

// Strangers says which contacts are no users, and which groups of the file have no
// member: it is no error, but mostly a slip of the pen by which nothing is shared.
func (f *File) Strangers() (lines []string) {
	names := f.Names()
	members := map[string]bool{}
	for _, name := range names {
		u := f.users[name]
		for _, g := range u.Groups {
			members[g] = true
		}
		for _, c := range u.Contacts {
			if _, ok := f.users[c]; !ok {
				lines = append(lines, fmt.Sprintf("%s has the contact %q, who is no user%s", name, c, strictyaml.DidYouMean(c, names)))
			}
		}
	}
	for _, g := range slices.Sorted(maps.Keys(f.groups)) {
		if !members[g] {
			lines = append(lines, fmt.Sprintf("nobody is in the group %q%s", g, strictyaml.DidYouMean(g, slices.Sorted(maps.Keys(members)))))
		}
	}
	return lines
}
