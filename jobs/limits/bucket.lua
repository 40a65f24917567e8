-- `Bucket.exchange` of bucket.py, line by line, in Redis. A test compares the two.
-- KEYS: the bucket of one account, the list of accounts. ARGV: the account; the terms; the ask; constants; and in tests
-- the time, which is otherwise the server's.
local account = ARGV[1]
local most, probe_s = tonumber(ARGV[2]), tonumber(ARGV[3])
local want, owed, cut, answered_ago_s = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local failed, leaves = tonumber(ARGV[8]), tonumber(ARGV[9])
local BURST_S, LEAST_BURST, LOT_S, RECOVERY_S, LEAST_RATE, CUT_EVERY_S, FAILURES, KEPT_S =
    tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14]),
    tonumber(ARGV[15]), tonumber(ARGV[16]), tonumber(ARGV[17])
local now = tonumber(ARGV[18])
if not now then
    local time = redis.call('TIME')
    now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local NAMES = {'rate', 'tokens', 'at', 'answered_at', 'cut_at', 'throttled_since', 'failures', 'silent_since', 'next_at'}
local b = {rate = most, tokens = math.max(LEAST_BURST, most * BURST_S), at = now, answered_at = now,
           cut_at = 0, throttled_since = 0, failures = 0, silent_since = 0, next_at = 0}
for n, value in ipairs(redis.call('HMGET', KEYS[1], unpack(NAMES))) do
    if value then b[NAMES[n]] = tonumber(value) end
end
local changes = {}

local passed = math.max(0, now - b.at)
b.at = now
b.rate = math.min(most, b.rate + most / RECOVERY_S * passed)
local burst = math.max(LEAST_BURST, b.rate * BURST_S)
b.tokens = math.min(burst, b.tokens + b.rate * passed)

b.cut_at, b.answered_at = math.min(b.cut_at, now), math.min(b.answered_at, now)
b.silent_since, b.next_at = math.min(b.silent_since, now), math.min(b.next_at, now + probe_s)

if b.throttled_since > 0 and b.rate >= most then
    b.throttled_since = 0
    table.insert(changes, 'recovered')
end
b.tokens = math.max(-most, b.tokens - owed)
if cut < 1 and now >= b.cut_at + CUT_EVERY_S then
    b.rate, b.cut_at, b.tokens = math.max(LEAST_RATE, b.rate * cut), now, math.min(b.tokens, 0)
    if b.throttled_since == 0 then
        b.throttled_since = now
        table.insert(changes, 'throttled')
    end
end

if answered_ago_s >= 0 then
    local answered_at = now - answered_ago_s
    if answered_at >= b.silent_since then
        if b.failures > 0 and answered_at >= b.answered_at + probe_s then table.insert(changes, 'found') end
        b.silent_since, b.failures = 0, 0
    end
    b.answered_at = math.max(b.answered_at, answered_at)
end
b.failures = b.failures + failed
if b.silent_since == 0 and b.failures >= FAILURES and now >= b.answered_at + probe_s then
    b.silent_since, b.next_at = now, now
    table.insert(changes, 'silent')
end

local tokens, wait_s
if b.silent_since > 0 then
    tokens = (want >= 1 and now >= b.next_at) and 1 or 0
    if tokens == 1 then b.next_at = now + probe_s end
    b.tokens = b.tokens - tokens
    wait_s = math.max(0, b.next_at - now)
else
    local free = b.tokens - leaves * burst
    tokens = free >= 1 and math.floor(math.min(want, math.max(1, b.rate * LOT_S), free)) or 0
    b.tokens = b.tokens - tokens
    wait_s = math.max(0, (1 - (free - tokens)) / b.rate)
end

-- All digits: a number that Redis makes a string of itself has 17 of them only by chance.
local written = {}
for _, name in ipairs(NAMES) do
    table.insert(written, name)
    table.insert(written, string.format('%.17g', b[name]))
end
redis.call('HSET', KEYS[1], unpack(written))
redis.call('EXPIRE', KEYS[1], KEPT_S)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - KEPT_S)
redis.call('ZADD', KEYS[2], now, account)
redis.call('EXPIRE', KEYS[2], KEPT_S)
return {tokens, string.format('%.17g', wait_s), string.format('%.17g', b.rate), b.silent_since > 0 and 1 or 0,
        table.concat(changes, ' ')}
