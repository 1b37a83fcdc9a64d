/* What Envoy's verifier takes for the time: it asks time(), and Envoy's own clocks do not. Preloaded by limbo.rs. */
#include <stdlib.h>
#include <time.h>

time_t time(time_t *result) {
    const char *seconds = getenv("VERIFY_AT");
    time_t now = seconds == NULL ? 0 : (time_t)strtoll(seconds, NULL, 10);
    if (result != NULL) *result = now;
    return now;
}
