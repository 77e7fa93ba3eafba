package httpapi

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of HTTP. Operations come from a fixed table, so labels are bounded.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	in, out  prometheus.Counter
	inFlight prometheus.Gauge
	refused  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "casd_http_requests_total", Help: "Requests by operation and status; status 0 is a connection closed without an answer.",
		}, []string{"operation", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "casd_http_request_seconds", Help: "Time from the headers of a request to the end of its response.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 14), // 0.5 ms to 75 s
		}, []string{"operation"}),
		in:       prometheus.NewCounter(prometheus.CounterOpts{Name: "casd_http_request_bytes_total", Help: "Body bytes received."}),
		out:      prometheus.NewCounter(prometheus.CounterOpts{Name: "casd_http_response_bytes_total", Help: "Body bytes sent."}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "casd_http_requests_in_flight", Help: "Requests under way."}),
		refused:  prometheus.NewCounter(prometheus.CounterOpts{Name: "casd_http_requests_refused_total", Help: "Requests refused because too many were under way."}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.in, m.out, m.inFlight, m.refused} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) observe(operation string, status int, d time.Duration, in, out int64) {
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(operation).Observe(d.Seconds())
	m.in.Add(float64(in))
	m.out.Add(float64(out))
}
