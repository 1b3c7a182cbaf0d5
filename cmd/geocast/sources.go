package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/regular"
	"github.com/geocast/geocast/rules"
)

type sourcesCmd struct {
	Test sourcesTestCmd `cmd:"" help:"Show what a source makes of a payload, or why not."`
}

type sourcesTestCmd struct {
	Rules   string `arg:"" type:"path" help:"Rules file, or a folder of them."`
	Topic   string `required:"" help:"Topic that the payload came on." placeholder:"TOPIC"`
	Payload string `required:"" help:"File of the payload; - is standard input." placeholder:"FILE"`
}

// Help shows an example.
func (sourcesTestCmd) Help() string {
	return `Prints a JSON line for each fix. Exit code 1 if one could not be read.

Example:
  echo '{"latitude":48.1,"longitude":11.5,"timestamp":1790000060000}' |
    geocast sources test rules.yaml --topic trackers/van7/pos --payload -`
}

// Run reads the payload by the source of the topic.
func (c *sourcesTestCmd) Run() error {
	set, err := loadRules(c.Rules)
	if err != nil {
		return usageError{err}
	}
	payload, err := readPayload(c.Payload)
	if err != nil {
		return usageError{err}
	}
	source, err := sourceOf(set, c.Rules, c.Topic)
	if err != nil {
		return err
	}
	fixes, bad, err := source.Decode(c.Topic, payload, time.Now().UnixMilli())
	if err != nil {
		return fmt.Errorf("source %s: %w", source.Topic, err)
	}
	if err := rules.WriteTrack(os.Stdout, rules.JSONL, slices.Values(fixes)); err != nil {
		return err
	}
	return rejected(bad, len(fixes))
}

func readPayload(name string) ([]byte, error) {
	if name == "-" {
		return readStdin(os.Stdin)
	}
	return regular.ReadUpTo(name, maxPayload)
}

// sourceOf returns the source that listens to topic: the first, as in the broker.
func sourceOf(set *rules.Set, file, topic string) (*rules.Source, error) {
	if !mqtt.ValidTopicName([]byte(topic)) {
		return nil, usageError{fmt.Errorf("%q is no topic to publish on: it holds a wildcard, or nothing", topic)}
	}
	listen := ""
	for _, s := range set.Sources() {
		if mqtt.Match(s.Filter, topic) {
			return s, nil
		}
		listen += "\n  " + s.Topic
	}
	if listen == "" {
		return nil, fmt.Errorf("%s has no sources", file)
	}
	return nil, fmt.Errorf("no source listens to %s; these do to others:%s", topic, listen)
}

// rejected is an error that says why reports were not taken.
func rejected(bad []geo.Rejection, taken int) error {
	var errs []error
	for _, r := range bad {
		errs = append(errs, fmt.Errorf("report %d: %s", r.Index+1, r.Reason))
	}
	if len(bad) == 0 && taken == 0 {
		return errors.New("the payload holds no position")
	}
	return errors.Join(errs...)
}
