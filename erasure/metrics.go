package erasure

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the numbers of one Log. They are registered as one collector, so that a log that is closed takes them along.
type metrics struct {
	reg           prometheus.Registerer
	log           *Log
	stripes       map[Class]prometheus.Counter
	fsync         prometheus.Histogram
	commitRecords prometheus.Histogram
	commitBytes   prometheus.Histogram
	degraded      prometheus.Counter
	reconstructed prometheus.Counter
	healed        prometheus.Counter
	corrupt       prometheus.Counter
	scrubbed      prometheus.Counter
	moved         prometheus.Counter
	dropped       prometheus.Counter
	findings      *prometheus.CounterVec

	directories *prometheus.Desc
	payload     *prometheus.Desc
	stored      *prometheus.Desc
	segments    *prometheus.Desc
	unsynced    *prometheus.Desc
}

func newMetrics(l *Log, reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		reg:     reg,
		log:     l,
		stripes: map[Class]prometheus.Counter{},
		fsync: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "casd_log_fsync_seconds", Help: "Time of one parallel fsync of all shard files of a segment.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 16)}),
		commitRecords: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "casd_log_commit_records", Help: "Mutations in one commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 14)}),
		commitBytes: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "casd_log_commit_bytes", Help: "Bytes of mutations in one commit.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 10)}),
		degraded:      counter("casd_log_degraded_reads_total", "Reads that needed parity."),
		reconstructed: counter("casd_log_reconstructed_bytes_total", "Bytes rebuilt from parity for reads."),
		healed:        counter("casd_log_healed_shards_total", "Shards that were bad or missing and were rewritten."),
		corrupt:       counter("casd_log_corrupt_total", "Stripes found with fewer than k valid shards where all should be valid."),
		scrubbed:      counter("casd_log_scrubbed_bytes_total", "Bytes that scrubs read from shard files."),
		moved:         counter("casd_log_moved_bytes_total", "Bytes of shard files that were written to another directory by moves."),
		dropped:       counter("casd_log_dropped_segments_total", "Segments that were dropped and their files removed."),
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "casd_log_scrub_findings_total", Help: "Damage that scrubs found, by kind."},
			[]string{"kind"}),
		directories: prometheus.NewDesc("casd_log_directories", "Data directories by state.", []string{"state"}, nil),
		payload:     prometheus.NewDesc("casd_log_payload_bytes", "Record tables and records of live segments, before parity and padding.", nil, nil),
		stored:      prometheus.NewDesc("casd_log_stored_bytes", "Live segments on disk, preallocation not included.", nil, nil),
		segments:    prometheus.NewDesc("casd_log_segments", "Live segments by class.", []string{"class"}, nil),
		unsynced:    prometheus.NewDesc("casd_log_unsynced_bytes", "Bulk in memory that is not durable yet.", nil, nil),
	}
	for _, kind := range findingKinds { // an alert needs the series before the first finding
		m.findings.WithLabelValues(kind)
	}
	for _, c := range []Class{Metadata, Data, Snapshot} {
		m.stripes[c] = prometheus.NewCounter(prometheus.CounterOpts{Name: "casd_log_stripes_total", Help: "Stripes written.",
			ConstLabels: prometheus.Labels{"class": c.String()}})
	}
	if reg != nil {
		if err := reg.Register(m); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.reg != nil {
		m.reg.Unregister(m)
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.stripes[Metadata], m.stripes[Data], m.stripes[Snapshot], m.fsync, m.commitRecords, m.commitBytes,
		m.degraded, m.reconstructed, m.healed, m.corrupt, m.scrubbed, m.moved, m.dropped, m.findings}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{m.directories, m.payload, m.stored, m.segments, m.unsynced} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It reads no files.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
	states := map[string]int{string(dirOnline): 0, string(dirAbsent): 0, string(dirOffline): 0, string(dirFull): 0, StateHealing: 0, StateDraining: 0}
	for _, d := range m.log.dirs() {
		st, _ := d.shown()
		states[st]++
	}
	for st, n := range states {
		ch <- prometheus.MustNewConstMetric(m.directories, prometheus.GaugeValue, float64(n), st)
	}
	classes := map[Class]int{Metadata: 0, Data: 0, Snapshot: 0}
	var payload, stored int64
	for _, s := range m.log.liveSegments() {
		s.mu.Lock()
		info := s.info()
		s.mu.Unlock()
		classes[info.Class]++
		payload += info.PayloadBytes
		stored += info.StoredBytes
	}
	for c, n := range classes {
		ch <- prometheus.MustNewConstMetric(m.segments, prometheus.GaugeValue, float64(n), c.String())
	}
	m.log.mu.Lock()
	unsynced := m.log.unsynced
	m.log.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(m.payload, prometheus.GaugeValue, float64(payload))
	ch <- prometheus.MustNewConstMetric(m.stored, prometheus.GaugeValue, float64(stored))
	ch <- prometheus.MustNewConstMetric(m.unsynced, prometheus.GaugeValue, float64(unsynced))
}
