package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/geocast/geocast/bench"
)

type benchMemoryCmd struct {
	Memory string        `help:"What geocast may use." default:"192MB"`
	Only   string        `help:"Only cases whose name holds this." placeholder:"TEXT"`
	For    time.Duration `help:"How long each case goes on." default:"8s"`
	Scale  float64       `help:"Multiply the number of clients." default:"1"`
}

// Help shows an example.
func (benchMemoryCmd) Help() string {
	return `Example: geocast bench memory --memory 256MB --only publishers

Each case is clients that make the broker hold as much as they can, on a broker of its own, beside a publisher and a subscriber that
send ten messages a second. The peak is RssAnon and RssShmem. The exit code is 1 if one goes beyond --memory, or the pair loses a
message. Both processes must be allowed 11,000 files.`
}

// Run runs the cases and prints the table.
func (c *benchMemoryCmd) Run() error {
	budget, err := parseSize(c.Memory)
	if err != nil {
		return usageError{err}
	}
	strains := bench.Strains(c.Scale)
	strains = slices.DeleteFunc(strains, func(s bench.Strain) bool { return !strings.Contains(s.Name, c.Only) })
	if len(strains) == 0 {
		return usageError{noneNamed(c.Only, bench.Strains(c.Scale), func(s bench.Strain) string { return s.Name })}
	}
	fmt.Printf("memory: %s\n\n| case | at most | let in | closed or refused | packets taken | the pair: p50, p99 |\n|---|---|---|---|---|---|\n", c.Memory)
	failed := 0
	for _, s := range strains {
		r, err := c.one(s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		remark := ""
		if r.Peak > budget {
			remark = " beyond"
		}
		pair := fmt.Sprintf("%.1f, %.1f ms", millis(r.Pair.P50), millis(r.Pair.P99))
		if r.Err != nil {
			pair = r.Err.Error()
		}
		if remark != "" || r.Err != nil {
			failed++
		}
		fmt.Printf("| %s | %d MB%s | %d | %d | %d | %s |\n", r.Name, r.Peak>>20, remark, r.Connected, r.Closed, r.Sent, pair)
	}
	if failed > 0 {
		return fmt.Errorf("%d cases went beyond %s, or held the pair up", failed, c.Memory)
	}
	return nil
}

// one runs a case on a broker of its own.
func (c *benchMemoryCmd) one(s bench.Strain) (bench.Strained, error) {
	scheme := map[string]string{"tcp": "mqtt", "tls": "mqtts", "ws": "ws"}[s.Transport]
	plain, err := freePort()
	if err != nil {
		return bench.Strained{}, err
	}
	admin, err := freePort()
	if err != nil {
		return bench.Strained{}, err
	}
	p, err := startSecured(scheme, "--listen", "mqtt://"+plain, "--memory", c.Memory, "--admin", admin)
	if err != nil {
		return bench.Strained{}, err
	}
	defer p.stop()
	p.admin = admin
	if err := p.ready(); err != nil {
		return bench.Strained{}, err
	}
	t := p.target()
	t.Address = plain
	r := s.Run(t, p.address, c.For)
	if r.Err != nil {
		r.Err = fmt.Errorf("%w\n%s", r.Err, p.log.String())
	}
	return r, nil
}
