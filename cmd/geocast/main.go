// Command geocast is the broker and its tools.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/alecthomas/kong"

	"github.com/geocast/geocast/rules"
	"github.com/geocast/geocast/strictyaml"
)

// version is set when a release is built.
var version = "devel"

// cli has one field for each command.
type cli struct {
	Init    initCmd          `cmd:"" help:"Write a configuration with comments to start from."`
	Serve   serveCmd         `cmd:"" help:"Run the broker."`
	Demo    demoCmd          `cmd:"" help:"Run the broker with example rules and real bus tracks, sent by MQTT clients over TCP."`
	Rules   rulesCmd         `cmd:"" help:"Check rules, or try them on tracks."`
	Sources sourcesCmd       `cmd:"" help:"Show what a source of the rules makes of a payload."`
	Tracks  tracksCmd        `cmd:"" help:"Export the positions that a broker has kept."`
	Config  configCmd        `cmd:"" help:"Check a configuration, or print it with its defaults."`
	Users   usersCmd         `cmd:"" help:"Add users, change and list them."`
	ACL     aclCmd           `cmd:"" name:"acl" help:"Check an access file, or say who may what and why."`
	Pub     pubCmd           `cmd:"" help:"Publish, with the flags of mosquitto_pub."`
	Sub     subCmd           `cmd:"" help:"Subscribe and print, with the flags of mosquitto_sub."`
	Bench   benchCmd         `cmd:"" help:"Measure a broker, or geocast beside mosquitto."`
	Help    helpFlag         `help:"Show help."`
	Version kong.VersionFlag `help:"Print the version."`
}

// helpFlag is --help without kong's short form: -h is the host of pub and sub.
type helpFlag bool

// BeforeReset prints the help of the command that was given, and exits.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	if err := ctx.PrintUsage(false); err != nil {
		return err
	}
	ctx.Exit(0)
	return nil
}

// helpArgs lets -h be --help, for pub and sub where no host follows, and help be so, too.
func helpArgs(args []string) []string {
	if len(args) > 0 && args[0] == "help" {
		return append(slices.Clone(args[1:]), "--help")
	}
	if len(args) > 0 && (args[0] == "pub" || args[0] == "sub") && !slices.Equal(args[1:], []string{"-h"}) {
		return args
	}
	args = slices.Clone(args)
	for i, a := range args {
		if a == "-h" {
			args[i] = "--help"
		}
	}
	return args
}

// usageError is an error in what the user wrote: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func main() { os.Exit(run(os.Args[1:])) }

// about is the help of the program itself.
const about = `An MQTT broker that delivers by who you are and where you are.

"geocast COMMAND --help" says more of a command, with an example. To begin:
  geocast demo
  geocast init ./my && geocast serve -c ./my/geocast.yaml`

func newParser(c *cli) (*kong.Kong, error) {
	return kong.New(c, kong.Name("geocast"), kong.Vars{"version": version},
		kong.Description(about), kong.UsageOnError(), kong.NoDefaultHelp())
}

// run runs a command and returns the exit code: 0, 1 for a failure while
// running, 2 for usage or configuration.
func run(args []string) int {
	var c cli
	p, err := newParser(&c)
	if err != nil {
		panic(err) // the cli struct is wrong
	}
	ctx, err := p.Parse(helpArgs(args))
	if err != nil {
		fmt.Fprintln(os.Stderr, "geocast:", err)
		return 2
	}
	if err := ctx.Run(); err != nil {
		complain(err)
		if errors.As(err, new(usageError)) {
			return 2
		}
		return 1
	}
	return 0
}

// complain prints an error. What is wrong in a file begins with its name, line and
// column, as editors read it, also of the first of several faults.
func complain(err error) {
	switch {
	case errors.As(err, new(quietError)):
	case errors.As(err, new(rules.Faults)), errors.As(err, new(*strictyaml.Fault)):
		fmt.Fprintln(os.Stderr, err)
	default:
		fmt.Fprintln(os.Stderr, "geocast:", err)
	}
}
