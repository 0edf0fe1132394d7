// Package cronjob creates Jobs at the times that CronJobs name.
//
// In flow CronJobs and their Jobs; out flow Jobs (created, replaced, deleted beyond the history limits) and the CronJobs' status. A Job is named
// after the minute that it was due, so that a repeated attempt makes no second one.
package cronjob
