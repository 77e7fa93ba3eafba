package index

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one DB. They are taken back when it is closed, so that another can be opened.
type metrics struct {
	registerer        prometheus.Registerer
	checkpointSeconds prometheus.Histogram
	overlayEntries    prometheus.GaugeFunc
	overlayBytes      prometheus.GaugeFunc
	fileBytes         prometheus.Gauge
	rows              *prometheus.GaugeVec
}

// registerMetrics registers the metrics of db; a nil registerer is fine.
func (db *DB) registerMetrics(registerer prometheus.Registerer) error {
	m := &metrics{
		registerer: registerer,
		checkpointSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "casd_index_checkpoint_seconds", Help: "Time to write one checkpoint of the index.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}),
		overlayEntries: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "casd_index_overlay_entries", Help: "Rows of the index that are in memory only, until the next checkpoint.",
		}, func() float64 { return float64(db.OverlayEntries()) }),
		overlayBytes: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "casd_index_overlay_bytes", Help: "Memory for rows of the index that are in memory only, estimated.",
		}, func() float64 { return float64(db.OverlayBytes()) }),
		fileBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "casd_index_file_bytes", Help: "Length of the file of the index after the last checkpoint.",
		}),
		rows: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "casd_index_rows", Help: "Rows of the index by table as of the last checkpoint.",
		}, []string{"table"}),
	}
	db.stats = m
	m.measure(db)
	if registerer == nil {
		return nil
	}
	for i, c := range m.collectors() {
		if err := registerer.Register(c); err != nil {
			for _, registered := range m.collectors()[:i] {
				registerer.Unregister(registered)
			}
			m.registerer = nil
			return err
		}
	}
	return nil
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.checkpointSeconds, m.overlayEntries, m.overlayBytes, m.fileBytes, m.rows}
}

func (db *DB) unregisterMetrics() {
	if db.stats == nil || db.stats.registerer == nil {
		return
	}
	for _, c := range db.stats.collectors() {
		db.stats.registerer.Unregister(c)
	}
}

// checkpointed notes a checkpoint that took so long.
func (m *metrics) checkpointed(db *DB, took time.Duration) {
	m.checkpointSeconds.Observe(took.Seconds())
	m.measure(db)
}

func (m *metrics) measure(db *DB) {
	if info, err := db.file.Stat(); err == nil {
		m.fileBytes.Set(float64(info.Size()))
	}
	db.changing.Lock()
	defer db.changing.Unlock()
	for _, t := range allTables {
		m.rows.WithLabelValues(t.String()).Set(float64(db.saved.sums[t].rows))
	}
}
