package users

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/geocast/geocast/regular"
	"github.com/geocast/geocast/strictyaml"
)

// Errors of Add, SetSecret and Remove, for callers that test for them.
var (
	ErrExists  = errors.New("there is a user of that name already")
	ErrUnknown = errors.New("there is no user of that name")
	// ErrByHand says that the file is written in a way that can't be edited
	// without touching what is not ours.
	ErrByHand = errors.New("the file is written in a way that only a person can edit; best is one user a line: name: {token: …}")
)

// Add adds a user to a file, which is made if there is none. All that stands in the
// file stays as it is, comments included. The file is replaced at once, durably,
// and is readable to its owner only; what can't stand there is an error.
func Add(file, name string, u User) error {
	probe := &File{tokens: map[string][32]byte{}, hashes: map[string]hash{}}
	if w := probe.checkUser(name, &u); w != nil {
		return errors.New(w.text)
	}
	return edit(file, func(s *script, users map[string]User) error {
		if _, ok := users[name]; ok {
			return fmt.Errorf("%s: user %q: %w", file, name, ErrExists)
		}
		users[name] = u
		return s.add(quote(name) + ": " + u.flow())
	})
}

// SetSecret replaces how a user signs in by the Token or Password of secret, as
// Add does.
func SetSecret(file, name string, secret User) error {
	return edit(file, func(s *script, users map[string]User) error {
		u, ok := users[name]
		if !ok {
			return fmt.Errorf("%s: user %q: %w", file, name, ErrUnknown)
		}
		u.Token, u.Password = secret.Token, secret.Password
		users[name] = u
		only := User{Token: secret.Token, Password: secret.Password}
		return s.setSecret(name, strings.Trim(only.flow(), "{}"))
	})
}

// Remove takes a user out of a file, as Add does.
func Remove(file, name string) error {
	return edit(file, func(s *script, users map[string]User) error {
		if _, ok := users[name]; !ok {
			return fmt.Errorf("%s: user %q: %w", file, name, ErrUnknown)
		}
		delete(users, name)
		return s.remove(name)
	})
}

// edit changes a file under a lock. change edits the text, and the users as they
// must be afterwards: if the new text does not read so, the file stays as it was.
func edit(file string, change func(*script, map[string]User) error) error {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	unlock, err := lock(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer unlock()
	text, err := regular.Read(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	old, err := Parse(file, text)
	if err != nil {
		return err
	}
	s, err := newScript(file, text)
	if err != nil {
		return err
	}
	want := maps.Clone(old.users)
	if want == nil {
		want = make(map[string]User)
	}
	if err := change(s, want); err != nil {
		return err
	}
	got, err := Parse(file, s.text())
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrByHand, err)
	}
	if !same(got.users, want) || !maps.Equal(got.groups, old.groups) {
		return fmt.Errorf("%s: %w", file, ErrByHand)
	}
	return replace(file, s.text())
}

func same(a, b map[string]User) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

// lock keeps other editors of files in dir out.
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: lock: %w", dir, err), d.Close())
	}
	return func() { d.Close() }, nil //nolint:errcheck // it was only read
}

// replace writes a file so that after a crash it is the old or the new one.
func replace(file string, text []byte) (err error) {
	dir := filepath.Dir(file)
	tmp, err := os.CreateTemp(dir, filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(text)
	err = errors.Join(err, keepOwner(tmp, file), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return err
	}
	return syncDir(dir)
}

// keepOwner gives the new file the owner of the old one, if there is one: what
// root edits, the broker's user must be able to read.
func keepOwner(tmp *os.File, file string) error {
	info, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Getuid() && int(st.Gid) == os.Getgid() {
		return nil
	}
	return tmp.Chown(int(st.Uid), int(st.Gid))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// flow is the entry in braces.
func (u *User) flow() string {
	var parts []string
	text := func(key, value string) {
		if value != "" {
			parts = append(parts, key+": "+quote(value))
		}
	}
	list := func(key string, values []string) {
		if len(values) > 0 {
			quoted := make([]string, len(values))
			for i, v := range values {
				quoted[i] = quote(v)
			}
			parts = append(parts, key+": ["+strings.Join(quoted, ", ")+"]")
		}
	}
	text("token", u.Token)
	text("password", u.Password)
	text("role", u.Role)
	list("groups", u.Groups)
	list("tags", u.Tags)
	list("contacts", u.Contacts)
	return "{" + strings.Join(parts, ", ") + "}"
}

var (
	plainWord = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.@-]*$`)
	reserved  = []string{"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
)

// quote writes a text so that YAML reads it as that text.
func quote(s string) string {
	if plainWord.MatchString(s) && !slices.Contains(reserved, strings.ToLower(s)) {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("users: a text is no JSON: " + err.Error())
	}
	return strings.TrimSpace(b.String())
}

// script is the text of a file while it is edited, line by line.
type script struct {
	doc   *strictyaml.Document
	lines []string // each with its end
}

func newScript(file string, text []byte) (*script, error) {
	doc, err := strictyaml.Parse(file, text)
	if err != nil {
		return nil, err
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return &script{doc, slices.Collect(strings.Lines(string(text)))}, nil
}

func (s *script) text() []byte { return []byte(strings.Join(s.lines, "")) }

// insert puts text into a line before a column.
func (s *script) insert(line, column int, text string) { s.replace(line, column, column, text) }

// replace puts text in place of the columns from (included) to (excluded).
func (s *script) replace(line, from, to int, text string) {
	r := []rune(s.lines[line-1])
	s.lines[line-1] = string(r[:from-1]) + text + string(r[to-1:])
}

// insertLine puts a new line before the one of that number.
func (s *script) insertLine(line int, text string) {
	s.lines = slices.Insert(s.lines, line-1, text+"\n")
}

// add adds an entry behind the last one.
func (s *script) add(entry string) error {
	root, _ := s.doc.Mapping()
	at, ok := root.Key("users")
	if !ok {
		if root.Flow {
			return ErrByHand
		}
		s.lines = append(s.lines, "users:\n", "  "+entry+"\n")
		return nil
	}
	m, ok := s.doc.Mapping("users")
	switch {
	case !ok || root.Flow || m.Flow && len(m.Keys) > 0:
		return ErrByHand
	case m.Flow:
		line := []rune(s.lines[m.Line-1])
		end := slices.Index(line[m.Column-1:], '}')
		if end < 0 {
			return ErrByHand
		}
		s.replace(m.Line, m.Column, m.Column+end+1, "")
		s.lines[m.Line-1] = strings.TrimRight(s.lines[m.Line-1], " \t\r\n") + "\n"
		s.insertLine(m.Line+1, "  "+entry)
	case len(m.Keys) == 0:
		s.insertLine(at.Line+1, "  "+entry)
	default:
		s.insertLine(s.end(m.Keys[len(m.Keys)-1], s.below(root, at)), strings.Repeat(" ", m.Keys[0].Column-1)+entry)
	}
	return nil
}

// below is the line where the next key of a block mapping stands, or the line behind
// the last.
func (s *script) below(m strictyaml.Mapping, k strictyaml.Key) int {
	next := len(s.lines) + 1
	for _, other := range m.Keys {
		if other.Line > k.Line {
			next = min(next, other.Line)
		}
	}
	return next
}

// end is the line behind an entry of a block mapping that ends before next: blank
// lines and comments before next are not the entry's.
func (s *script) end(k strictyaml.Key, next int) int {
	for next-1 > k.Line {
		line := strings.TrimSpace(s.lines[next-2])
		if line != "" && line[0] != '#' {
			break
		}
		next--
	}
	return next
}

// remove takes an entry's lines out.
func (s *script) remove(name string) error {
	root, _ := s.doc.Mapping()
	at, _ := root.Key("users")
	m, ok := s.doc.Mapping("users")
	k, found := m.Key(name)
	if !ok || !found || m.Flow || root.Flow {
		return ErrByHand
	}
	next := min(s.below(m, k), s.below(root, at))
	s.lines = slices.Delete(s.lines, k.Line-1, s.end(k, next)-1)
	return nil
}

// setSecret replaces the token or password of an entry, or gives it one. pair is
// key: value.
func (s *script) setSecret(name, pair string) error {
	users, _ := s.doc.Mapping("users")
	at, _ := users.Key(name)
	m, ok := s.doc.Mapping("users", name)
	if !ok {
		return ErrByHand
	}
	k, found := m.Key("token")
	if !found {
		k, found = m.Key("password")
	}
	switch {
	case found && k.ValueLine != k.Line:
		return ErrByHand
	case found:
		s.replace(k.Line, k.Column, s.scalarEnd(k, m.Flow), pair)
	case m.Flow && len(m.Keys) == 0:
		s.insert(m.Line, m.Column+1, pair)
	case m.Flow:
		s.insert(m.Line, m.Column+1, pair+", ")
	case len(m.Keys) > 0:
		s.insertLine(m.Keys[0].Line, strings.Repeat(" ", m.Keys[0].Column-1)+pair)
	default:
		s.insert(at.Line, at.Colon, " {"+pair+"}")
	}
	return nil
}

// scalarEnd is the column behind a scalar that is written on one line.
func (s *script) scalarEnd(k strictyaml.Key, flow bool) int {
	line := []rune(strings.TrimRight(s.lines[k.Line-1], " \t\r\n"))
	rest := line[k.ValueColumn-1:]
	if q := rest[0]; q == '"' || q == '\'' {
		if end := slices.Index(rest[1:], q); end >= 0 {
			return k.ValueColumn + end + 2
		}
	}
	for i, r := range rest {
		if flow && (r == ',' || r == '}') || r == ' ' || r == '\t' {
			return k.ValueColumn + i
		}
	}
	return len(line) + 1
}
