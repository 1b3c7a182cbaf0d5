package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks/georules"
)

// metrics shows the broker's counters to Prometheus.
type metrics adminServer

var _ prometheus.Collector = (*metrics)(nil)

// shown are the metrics: name, help, and where the value is.
var shown = []struct {
	name, help string
	total      bool
	value      func(*broker.Stats) float64
}{
	{"geocast_connections", "Connections that are open, of whatever state.", false, func(s *broker.Stats) float64 { return float64(s.Connections) }},
	{"geocast_clients", "Sessions that have a connection.", false, func(s *broker.Stats) float64 { return float64(s.Online) }},
	{"geocast_connects_total", "Clients that were let in.", true, func(s *broker.Stats) float64 { return float64(s.Connects) }},
	{"geocast_connects_refused_total", "Clients that were not let in.", true, func(s *broker.Stats) float64 { return float64(s.ConnectsRefused) }},
	{"geocast_sessions", "Sessions, online and offline.", false, func(s *broker.Stats) float64 { return float64(s.Sessions) }},
	{"geocast_subscriptions", "Subscriptions that are not shared.", false, func(s *broker.Stats) float64 { return float64(s.Subscriptions) }},
	{"geocast_shared_subscriptions", "Shared subscriptions.", false, func(s *broker.Stats) float64 { return float64(s.Groups) }},
	{"geocast_retained_topics", "Topics that hold a retained message.", false, func(s *broker.Stats) float64 { return float64(s.RetainedTopics) }},
	{"geocast_retained_bytes", "Size of the retained messages.", false, func(s *broker.Stats) float64 { return float64(s.RetainedBytes) }},
	{"geocast_retained_ended_total", "Retained messages that went at their expiry or by their age.", true, func(s *broker.Stats) float64 { return float64(s.RetainedEnded) }},
	{"geocast_inboxes", "People that have an inbox.", false, func(s *broker.Stats) float64 { return float64(s.Inboxes) }},
	{"geocast_disk_free_bytes", "Free space on the volume of the data folder.", false, func(s *broker.Stats) float64 { return float64(s.FreeBytes) }},
	{"geocast_memory_held_bytes", "What the process holds in memory, garbage left out.", false, func(s *broker.Stats) float64 { return float64(s.HeldBytes) }},
	{"geocast_packets_waiting", "Connections that wait for room for a large packet.", false, func(s *broker.Stats) float64 { return float64(s.PacketsWaiting) }},
	{"geocast_output_bytes", "Output that is large, or that clients do not read.", false, func(s *broker.Stats) float64 { return float64(s.OutputBytes) }},
	{"geocast_backlog_bytes", "Messages that wait in memory for readers.", false, func(s *broker.Stats) float64 { return float64(s.BacklogBytes) }},
	{"geocast_backlog_sessions", "Sessions that wait for room in memory.", false, func(s *broker.Stats) float64 { return float64(s.BacklogSessions) }},
	{"geocast_jobs_waiting", "What waits for a worker.", false, func(s *broker.Stats) float64 { return float64(s.JobsWaiting) }},
	{"geocast_workers", "Workers: 4 a CPU, and up to 1,024 while what they do blocks.", false, func(s *broker.Stats) float64 { return float64(s.Workers) }},
	{"geocast_memory_crowded", "1 while nothing new is taken because memory is nearly used up.", false, func(s *broker.Stats) float64 { return truth(s.Crowded) }},
	{"geocast_disk_full", "1 while publishes are refused because the disk is nearly full.", false, func(s *broker.Stats) float64 { return truth(s.NoSpace) }},
	{"geocast_commits_total", "Batches on stable storage.", true, func(s *broker.Stats) float64 { return float64(s.Commits) }},
	{"geocast_core_busy_seconds_total", "Time that the one ordered core has spent applying commands.", true, func(s *broker.Stats) float64 { return s.Busy.Seconds() }},
	{"geocast_published_total", "Messages that were routed.", true, func(s *broker.Stats) float64 { return float64(s.Published) }},
	{"geocast_delivered_total", "Messages that were sent to subscribers.", true, func(s *broker.Stats) float64 { return float64(s.Delivered) }},
	{"geocast_received_bytes_total", "Bytes of MQTT packets that were read.", true, func(s *broker.Stats) float64 { return float64(s.BytesIn) }},
	{"geocast_sent_bytes_total", "Bytes of MQTT packets that were written.", true, func(s *broker.Stats) float64 { return float64(s.BytesOut) }},
	{"geocast_dropped_total", "QoS 0 messages that a slow reader did not get.", true, func(s *broker.Stats) float64 { return float64(s.Dropped) }},
	{"geocast_overflow_total", "Messages that queues lost to their bounds.", true, func(s *broker.Stats) float64 { return float64(s.Overflow) }},
	{"geocast_inbox_cut_total", "Events that inboxes lost to their bounds and age.", true, func(s *broker.Stats) float64 { return float64(s.InboxCut) }},
	{"geocast_expired_total", "Messages that expired before they were sent.", true, func(s *broker.Stats) float64 { return float64(s.Expired) }},
	{"geocast_too_large_total", "Messages above the client's Maximum Packet Size.", true, func(s *broker.Stats) float64 { return float64(s.TooLarge) }},
	{"geocast_damaged_total", "Records of the store that could not be read.", true, func(s *broker.Stats) float64 { return float64(s.Damaged) }},
	{"geocast_malformed_total", "Connections that broke the protocol.", true, func(s *broker.Stats) float64 { return float64(s.Malformed) }},
	{"geocast_refused_total", "Publishes that were refused.", true, func(s *broker.Stats) float64 { return float64(s.Refused) }},
	{"geocast_subscriptions_refused_total", "Filters of a SUBSCRIBE that were refused.", true, func(s *broker.Stats) float64 { return float64(s.RefusedFilters) }},
	{"geocast_unobserved_total", "Events that an observer was too slow for.", true, func(s *broker.Stats) float64 { return float64(s.Unobserved) }},
}

// ofRules are the totals of the rules engine's hook.
var ofRules = []struct {
	name, help string
	value      func(*georules.Hook) uint64
}{
	{"geocast_reports_refused_total", "Reports of positions that were refused, one by one.", func(h *georules.Hook) uint64 { return h.Rejected.Load() }},
	{"geocast_events_undelivered_total", "Publishes and ticks of which an event could not be given to all its recipients.", func(h *georules.Hook) uint64 { return h.Undelivered.Load() }},
}

// timed are the histograms, in seconds; they are observed once a batch.
var timed = []struct {
	name, help string
	value      func(*broker.Stats) *broker.Durations
}{
	{"geocast_commit_seconds", "How long the store took for a batch, mostly for its fsync.", func(s *broker.Stats) *broker.Durations { return &s.CommitTimes }},
	{"geocast_answer_seconds", "From the first kept command of a batch until its acknowledgements left.", func(s *broker.Stats) *broker.Durations { return &s.AnswerTimes }},
}

// histogram is d as Prometheus has it.
func histogram(desc *prometheus.Desc, d *broker.Durations) prometheus.Metric {
	buckets := make(map[float64]uint64, len(d.Bounds))
	for i, bound := range d.Bounds {
		buckets[bound.Seconds()] = d.AtMost[i]
	}
	return prometheus.MustNewConstHistogram(desc, d.Count, d.Sum.Seconds(), buckets)
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// Describe sends nothing: the metrics are there once the broker is.
func (*metrics) Describe(chan<- *prometheus.Desc) {}

// buildInfo tells the version, in a label as is usual.
var buildInfo = prometheus.NewDesc("geocast_build_info", "1; the label is the version of the program.", []string{"version"}, nil)

// Collect sends the counters.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(buildInfo, prometheus.GaugeValue, 1, version)
	b := (*adminServer)(m).broker.Load()
	if b == nil {
		return
	}
	s := b.Stats()
	for _, x := range shown {
		kind := prometheus.GaugeValue
		if x.total {
			kind = prometheus.CounterValue
		}
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, nil, nil), kind, x.value(&s))
	}
	for _, x := range ofRules {
		if m.engine == nil {
			break
		}
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, nil, nil), prometheus.CounterValue, float64(x.value(m.engine)))
	}
	for _, x := range timed {
		out <- histogram(prometheus.NewDesc(x.name, x.help, nil, nil), x.value(&s))
	}
}
