package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/users"
)

type usersCmd struct {
	Add    usersAddCmd    `cmd:"" help:"Add a user, with a new token or a password."`
	Passwd usersPasswdCmd `cmd:"" help:"Give a user a new password or token."`
	List   usersListCmd   `cmd:"" help:"Show who is in the users file."`
	Rm     usersRmCmd     `cmd:"" help:"Take a user out of the users file."`
	Topic  usersTopicCmd  `cmd:"" help:"Print the topics of a user, as they are written in a client."`
}

// usersFile is the flag that all of them have.
type usersFile struct {
	File string `name:"users" help:"Users file (users.yaml)." default:"users.yaml" type:"path" placeholder:"FILE"`
}

type usersAddCmd struct {
	usersFile
	Name     string   `arg:"" help:"The user's name."`
	Role     string   `help:"The user's role, such as driver or admin."`
	Group    []string `help:"A group that the user is in; may be repeated."`
	Tag      []string `help:"A tag of the user; may be repeated."`
	Contact  []string `help:"Whom the user has as a contact; may be repeated."`
	Token    bool     `help:"Make a token and print it once (the default)." xor:"secret"`
	Password bool     `help:"Read a password from the terminal, or a line of standard input." xor:"secret"`
}

// Help shows examples.
func (usersAddCmd) Help() string {
	return `Examples:
  geocast users add watch-7 --role tracker --group crew
  geocast users add ann --password

The client signs in with the name as its MQTT user name and the token or password as its MQTT password. The file is made
if there is none, keeps its comments, and holds a hash only: the token can't be shown again.`
}

// Run adds the user.
func (c *usersAddCmd) Run() error {
	u, token, err := secret(c.Password)
	if err != nil {
		return err
	}
	u.Role, u.Groups, u.Tags, u.Contacts = c.Role, c.Group, c.Tag, c.Contact
	_, missing := os.Stat(c.File)
	if err := users.Add(c.File, c.Name, u); err != nil {
		return editError(err)
	}
	if missing != nil { // perhaps a folder's that was not meant
		fmt.Fprintln(os.Stderr, c.File, "is new.")
	}
	show(token)
	tellReload()
	return nil
}

type usersPasswdCmd struct {
	usersFile
	Name     string `arg:"" help:"The user's name."`
	Token    bool   `help:"Make a token and print it once." xor:"secret"`
	Password bool   `help:"Read a password from the terminal, or a line of standard input (the default)." xor:"secret"`
}

// Help shows examples.
func (usersPasswdCmd) Help() string {
	return `Examples:
  geocast users passwd ann
  geocast users passwd watch-7 --token

What the user signed in with before, token or password, holds no longer once the broker has read the file again.`
}

// Run replaces the secret.
func (c *usersPasswdCmd) Run() error {
	u, token, err := secret(!c.Token)
	if err != nil {
		return err
	}
	if err := users.SetSecret(c.File, c.Name, u); err != nil {
		return editError(err)
	}
	show(token)
	tellReload()
	return nil
}

type usersRmCmd struct {
	usersFile
	Name string `arg:"" help:"The user's name."`
}

// Help shows an example.
func (usersRmCmd) Help() string { return "Example: geocast users rm watch-7" }

// Run removes the user.
func (c *usersRmCmd) Run() error {
	if err := users.Remove(c.File, c.Name); err != nil {
		return editError(err)
	}
	tellReload()
	return nil
}

type usersListCmd struct {
	usersFile
	JSON bool `help:"One JSON object a line."`
}

// Help shows an example.
func (usersListCmd) Help() string { return "Example: geocast users list --json" }

// listed is a user as --json shows it.
type listed struct {
	Name     string         `json:"name"`
	SignsIn  string         `json:"signs_in"` // token, password or never
	Role     string         `json:"role,omitempty"`
	Groups   []string       `json:"groups,omitempty"`
	Tags     []string       `json:"tags,omitempty"`
	Contacts []string       `json:"contacts,omitempty"`
	Attrs    map[string]any `json:"attrs,omitempty"`
}

// Run prints the users.
func (c *usersListCmd) Run() error {
	f, err := users.Load(c.File)
	if err != nil {
		return usageError{err}
	}
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	lines := json.NewEncoder(&out)
	if !c.JSON {
		fmt.Fprintln(table, "NAME\tSIGNS IN BY\tROLE\tGROUPS\tTAGS\tCONTACTS")
	}
	for _, name := range f.Names() {
		u, _ := f.User(name)
		l := listed{name, signsIn(&u), u.Role, u.Groups, u.Tags, u.Contacts, u.Attrs}
		if c.JSON {
			if err := lines.Encode(l); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", name, l.SignsIn, dash(u.Role), dash(u.Groups...), dash(u.Tags...), dash(u.Contacts...))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = os.Stdout.Write(out.Bytes())
	return err
}

func signsIn(u *users.User) string {
	switch {
	case u.Token != "":
		return "token"
	case u.Password != "":
		return "password"
	}
	return "never"
}

// dash is a list in a table.
func dash(words ...string) string {
	if s := strings.Join(words, ","); s != "" {
		return s
	}
	return "-"
}

type usersTopicCmd struct {
	Name string `arg:"" help:"The user's name."`
}

// Help shows an example.
func (usersTopicCmd) Help() string { return "Example: geocast users topic '50%'" }

// Run prints the topics.
func (c *usersTopicCmd) Run() error {
	n := hooks.EncodeName(c.Name)
	fmt.Printf("subscribe  users/%s/inbox\nsubscribe  users/%s/reply\npublish    users/%s/location\nothers     users/%s/chat\n", n, n, n, n)
	return nil
}

// secret makes a token, or reads a password; token is empty for the latter.
func secret(password bool) (u users.User, token string, err error) {
	if !password {
		token, u.Token = users.NewToken()
		return u, token, nil
	}
	p, err := readPassword()
	if err != nil {
		return u, "", err
	}
	u.Password = users.HashPassword(p)
	return u, "", nil
}

// show prints a new token alone on standard output, so that a script can take it.
func show(token string) {
	if token != "" {
		fmt.Println(token)
		fmt.Fprintln(os.Stderr, "This token is shown once; the users file holds its hash only.")
	}
}

// tellReload says when a change holds.
func tellReload() { fmt.Fprintln(os.Stderr, "A broker that runs reads the file on SIGHUP.") }

// readPassword reads one line, from a terminal without echo and twice.
func readPassword() ([]byte, error) {
	in := bufio.NewReader(os.Stdin)
	info, err := os.Stdin.Stat()
	if err != nil {
		return nil, err
	}
	terminal := info.Mode()&os.ModeCharDevice != 0
	if terminal {
		defer hideInput()()
	}
	p, err := prompt(in, terminal, "Password: ")
	if err != nil {
		return nil, err
	}
	if len(p) == 0 {
		return nil, usageError{errors.New("a password has at least one character")}
	}
	if terminal {
		if again, err := prompt(in, true, "Again: "); err != nil || !bytes.Equal(again, p) {
			return nil, usageError{errors.Join(errors.New("the two passwords differ"), err)}
		}
	}
	return p, nil
}

func prompt(in *bufio.Reader, terminal bool, text string) ([]byte, error) {
	if terminal {
		fmt.Fprint(os.Stderr, text)
		defer fmt.Fprintln(os.Stderr)
	}
	line, err := in.ReadBytes('\n')
	if len(line) == 0 && err != nil {
		return nil, usageError{fmt.Errorf("no password on standard input: %w", err)}
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// hideInput keeps the terminal from showing what is typed until show is called, or
// the program is interrupted.
func hideInput() (show func()) {
	if echo("-echo") != nil {
		return func() {}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, interrupted := <-stop; interrupted {
			_ = echo("echo")
			os.Exit(130)
		}
	}()
	return func() {
		signal.Stop(stop)
		close(stop)
		_ = echo("echo") // nothing is left to do if it fails
	}
}

func echo(setting string) error {
	stty := exec.Command("stty", setting)
	stty.Stdin = os.Stdin
	return stty.Run()
}

// editError tells what the system failed at from what is wrong with a file or name.
func editError(err error) error {
	var system *os.PathError
	var link *os.LinkError
	if err == nil || errors.As(err, &system) || errors.As(err, &link) {
		return err
	}
	return usageError{err}
}
