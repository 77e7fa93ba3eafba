package cas

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the store's own; the log and the index have theirs.
type metrics struct {
	reg                     prometheus.Registerer
	registered              []prometheus.Collector
	dedupHits, dedupMisses  prometheus.Counter
	dedupHitBytes           prometheus.Counter
	storedPlain, storedZstd prometheus.Counter
	chunkBytes              prometheus.Histogram
	batch                   prometheus.Histogram
	conflicts               prometheus.Counter
	cacheHits, cacheMisses  prometheus.Counter
	damagedChunks           prometheus.Counter
	indexRebuilds           prometheus.Counter
	gcCycles                *prometheus.CounterVec // by outcome
	gcReclaimed, gcCopied   prometheus.Counter
	gcGarbage, gcCompleted  prometheus.Gauge
	scrubTime, scrubOutcome prometheus.Gauge
	healed, healFailures    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		reg:           reg,
		dedupHits:     counter("casd_dedup_hits_total", "Chunks of uploads that were stored already."),
		dedupMisses:   counter("casd_dedup_misses_total", "Chunks of uploads that were new."),
		dedupHitBytes: counter("casd_dedup_hit_bytes_total", "Plain bytes of the chunks that were stored already."),
		storedPlain:   counter("casd_chunk_plain_bytes_total", "Plain bytes of new chunks."),
		storedZstd:    counter("casd_chunk_stored_bytes_total", "Bytes of new chunks as they were stored, after compression."),
		conflicts:     counter("casd_commit_conflicts_total", "Transactions prepared again in the committer since what they had read changed."),
		cacheHits:     counter("casd_cache_hits_total", "Chunks served from the chunk cache."),
		cacheMisses:   counter("casd_cache_misses_total", "Chunks that were not in the chunk cache."),
		damagedChunks: counter("casd_damaged_chunks_total", "Chunks that could not be rebuilt when they were read."),
		indexRebuilds: counter("casd_index_rebuilds_total", "Times that this process built the index anew, since it was missing or damaged."),
		healed:        counter("casd_heal_segments_total", "Segments that healing in the background went through."),
		healFailures:  counter("casd_heal_failures_total", "Of these, segments that it could not mend and tries again."),
		scrubTime: prometheus.NewGauge(prometheus.GaugeOpts{Name: "casd_scrub_last_completed_timestamp_seconds",
			Help: "When the last scrub ended that read the whole store, seconds since 1970; 0: none that is known."}),
		scrubOutcome: prometheus.NewGauge(prometheus.GaugeOpts{Name: "casd_scrub_last_outcome",
			Help: "Outcome of the last scrub: 0 whole, 1 repaired, 2 damaged, 3 lost; -1: none that is known."}),
		chunkBytes: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "casd_chunk_bytes", Help: "Plain size of new chunks.",
			Buckets: prometheus.ExponentialBuckets(512, 2, 12)}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "casd_commit_batch_mutations", Help: "Mutations made durable by one group commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
	}
	m.gcCycles = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "casd_gc_cycles_total", Help: "Cycles of mark and compact, by outcome: done or failed."}, []string{"outcome"})
	m.gcCycles.WithLabelValues("done")
	m.gcCycles.WithLabelValues("failed")
	m.gcReclaimed = counter("casd_gc_reclaimed_bytes_total", "Bytes on disk of segments that were dropped.")
	m.gcCopied = counter("casd_gc_copied_bytes_total", "Bytes of records copied out of segments before they were dropped.")
	m.gcGarbage = prometheus.NewGauge(prometheus.GaugeOpts{Name: "casd_gc_garbage_bytes", Help: "Garbage that the last cycle found, bytes on disk, before it dropped any."})
	m.gcCompleted = prometheus.NewGauge(prometheus.GaugeOpts{Name: "casd_gc_last_completed_timestamp_seconds", Help: "When a cycle last ended well; 0 before the first since the start."})
	m.register(m.gcCycles, m.gcReclaimed, m.gcCopied, m.gcGarbage, m.gcCompleted)
	m.register(m.dedupHits, m.dedupMisses, m.dedupHitBytes, m.storedPlain, m.storedZstd, m.conflicts, m.cacheHits, m.cacheMisses,
		m.damagedChunks, m.indexRebuilds, m.chunkBytes, m.batch, m.scrubTime, m.scrubOutcome, m.healed, m.healFailures)
	m.scrubOutcome.Set(-1)
	return m
}

func (m *metrics) register(cs ...prometheus.Collector) {
	if m.reg != nil {
		m.reg.MustRegister(cs...)
		m.registered = append(m.registered, cs...)
	}
}

// scrubbed notes how a scrub went.
func (m *metrics) scrubbed(r *Receipt) {
	m.scrubOutcome.Set(float64(slices.Index(outcomes, r.Outcome)))
	if r.Complete {
		m.scrubTime.Set(float64(r.Ended.Unix()))
	}
}

// outcomes of a scrub, best first.
var outcomes = []string{OutcomeWhole, OutcomeRepaired, OutcomeDamaged, OutcomeLost}

// unregister makes room for the metrics of the next store that is opened with the same registry.
func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.reg.Unregister(c)
	}
	m.registered = nil
}

// collected counts a cycle.
func (m *metrics) collected(r *GCReport, err error) {
	if r.DryRun {
		return
	}
	m.gcReclaimed.Add(float64(r.ReclaimedBytes))
	m.gcCopied.Add(float64(r.CopiedBytes))
	if err != nil {
		m.gcCycles.WithLabelValues("failed").Inc()
		return
	}
	m.gcCycles.WithLabelValues("done").Inc()
	m.gcGarbage.Set(float64(r.GarbageBytes))
	m.gcCompleted.Set(float64(r.Ended.Unix()))
}

// watch registers what is read off the open store.
func (m *metrics) watch(s *Store) {
	gauge := func(name, help string, f func() float64) {
		m.register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	gauge("casd_chunks", "Distinct chunks.", func() float64 { return float64(s.idx.Totals().Chunks) })
	gauge("casd_unique_bytes", "Plain bytes of all distinct chunks.", func() float64 { return float64(s.idx.Totals().Bytes) })
	gauge("casd_commit_queue", "Transactions that wait for the committer.", func() float64 { return float64(len(s.queue)) })
	gauge("casd_cache_bytes", "Bytes in the chunk cache.", func() float64 { return float64(s.cache.bytes()) })
	gauge("casd_lost_chunks", "Chunks that are known to be beyond repair.", func() float64 { return float64(s.damaged.n.Load()) })
	gauge("casd_damaged_segments", "Segments with shard files that are missing.", func() float64 { return float64(s.damagedSegments()) })
	gauge("casd_heal_waiting_segments", "Segments that wait to be healed.", func() float64 { return float64(s.healer.waiting()) })
	gauge("casd_writable", "1 when writes are accepted.", func() float64 {
		if s.WriteState() != nil {
			return 0
		}
		return 1
	})
}
