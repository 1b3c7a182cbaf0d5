package main

import (
	"fmt"

	"github.com/geocast/geocast/hooks/users"
)

type usersCmd struct {
	Token usersTokenCmd `cmd:"" help:"Make a token: print it, and the line of the users file that knows it."`
}

type usersTokenCmd struct {
	Name string `arg:"" help:"The user's name."`
}

// Help shows an example.
func (usersTokenCmd) Help() string { return "Example: geocast users token ann" }

// Run prints a new token.
func (c *usersTokenCmd) Run() error {
	token, stored := users.NewToken()
	fmt.Printf("token: %s\nusers file:\n  %s: {token: %q}\n", token, c.Name, stored)
	return nil
}
