/**
 * What the API answers, for the type checker. docs/reference/openapi.json describes each field.
 *
 * @typedef {{category: string, score: number}} CategoryScore
 * @typedef {{item_id: string, weight: number}} ItemAttention
 * @typedef {{partition: number, offset: number, lag: number | null, age: number | null, source: 'live' | 'behind' | 'stale'}} State
 * @typedef {'returned' | 'no_embedding' | 'weight_zero' | 'beyond_bag_size'} NotScored
 *
 * @typedef {object} BagEntry
 * @property {string} item_id
 * @property {Record<string, string>} types the newest time of each interaction type
 * @property {string} image_url
 * @property {number | null} weight
 * @property {NotScored | null} not_scored
 *
 * @typedef {object} UserAnswer
 * @property {string} user_id
 * @property {BagEntry[]} items newest first
 * @property {CategoryScore[]} categories
 * @property {State} state
 *
 * @typedef {object} RecommendedItem
 * @property {string} item_id
 * @property {number} score
 * @property {string | null} because
 * @property {string} image_url
 * @property {string} title
 * @property {string[]} categories
 * @property {number | null} price
 * @property {boolean | null} in_stock
 * @property {string} url
 *
 * @typedef {object} RecommendationAnswer
 * @property {string} user_id
 * @property {string} event_id
 * @property {string | null} timestamp
 * @property {string} produced_at
 * @property {number} bag_size
 * @property {boolean} cold_start
 * @property {CategoryScore[]} categories
 * @property {RecommendedItem[]} items
 * @property {State} state
 *
 * @typedef {{category: string, score: number, without: number}} CategoryChange
 *
 * @typedef {object} WithoutAnswer
 * @property {string} item
 * @property {CategoryChange[]} categories
 * @property {State} state
 *
 * @typedef {object} CatalogueItem
 * @property {string} item_id
 * @property {string} image_url
 * @property {string} title
 * @property {string[]} categories
 * @property {number | null} price
 * @property {boolean | null} in_stock
 * @property {string | null} arrived
 * @property {boolean} pictured
 * @property {number} holders
 * @property {{item_id: string, image_url: string, score: number, holders: number} | null} nearest
 *
 * @typedef {CatalogueItem & {tastes: number | null}} Arrival
 * @typedef {{bags: number, recommended: number, complete: boolean, at: string | null}} TasteSample
 * @typedef {{count: number, items: RecommendedItem[]}} DuplicateGroup
 * @typedef {{groups: DuplicateGroup[], found: number, items: number, least: number, left: number | null}} DuplicatesAnswer
 *
 * @typedef {{client: string, host: string, member: string}} Owner
 * @typedef {{partition: number, position: number | null, events: number | null, seconds: number | null, owner: Owner | null}} PartitionLag
 * @typedef {{topic: string, group: string, state: string, members: number, partitions: PartitionLag[]}} GroupLag
 *
 * @typedef {{host: string, since: string, workers: number, waiting: number, refused: number}} OpenCircuit
 *
 * @typedef {object} Now
 * @property {string | null} at
 * @property {{well: boolean, reason: string, text: string, since: string | null, runbook: string}} verdict
 * @property {{at: number} | null} second
 * @property {GroupLag[]} groups
 * @property {{reason: string, count: number, newest: string}[]} dead_letters
 * @property {OpenCircuit[]} open_circuits
 * @property {{at: string, kind: string, text: string}[]} marks
 *
 * @typedef {object} History columns of the same length
 * @property {number} step seconds
 * @property {number[]} at
 * @property {(number | null)[]} events_in
 * @property {(number | null)[]} events_out
 * @property {(number | null)[]} p50
 * @property {(number | null)[]} p99
 * @property {(number | null)[]} lag_seconds
 *
 * @typedef {Now & {history: History}} Overview
 *
 * @typedef {object} BundleAnswer
 * @property {string} name
 * @property {string} version
 * @property {string} embedder_version
 * @property {string} task
 * @property {string} trained
 * @property {string[]} categories
 * @property {{source: string, users: number, events: number} | null} data
 * @property {{name: string}[]} sources
 * @property {Record<string, Record<string, number | null>>} figures
 * @property {Record<string, number>} calibration
 *
 * @typedef {{name: string, version: string}} BundleName
 * @typedef {{items: number, native: number, adapted: number, stale: number, missing: number, share: number, needed: number, counted: boolean, partitions: number}} Rollout
 *
 * @typedef {object} ModelAnswer
 * @property {BundleAnswer} served
 * @property {BundleAnswer | null} next
 * @property {{bags: number, items: number, scored: number, not_scored: Record<string, number>, cold: number}} sample
 * @property {Rollout | null} rollout
 * @property {{group: string, client: string, host: string, bundles: {served: BundleName, next: BundleName | null} | null}[]} workers
 *
 * @typedef {object} LetterSummary
 * @property {number} partition
 * @property {number} offset
 * @property {string} at
 * @property {string} reason
 * @property {string} field
 * @property {string} error
 * @property {string} worker
 * @property {string} topic
 * @property {string} user_id
 * @property {string} event_id
 * @property {string} host
 * @property {number} attempts
 * @property {boolean} sent
 *
 * @typedef {{letters: LetterSummary[], matching: number, read: number}} LettersAnswer
 * @typedef {'utf-8' | 'base64' | null} Encoding
 *
 * @typedef {object} LetterDocument
 * @property {{topic: string, partition: number, offset: number} | null} original
 * @property {number | null} first_offset
 * @property {number | null} truncated
 * @property {string | null} key
 * @property {Encoding} key_encoding
 * @property {string | null} value
 * @property {Encoding} value_encoding
 * @property {{name: string, value: string | null, encoding: Encoding}[]} headers
 *
 * @typedef {{dry_run: boolean, selected: number, sent: number, doubtful: number, skipped: Record<string, number>}} RedriveAnswer
 *
 * @typedef {object} PictureFate
 * @property {string} item_id
 * @property {string} name
 * @property {number | null} weight
 * @property {string} reason
 * @property {string} detail
 *
 * @typedef {object} TasteAnswer
 * @property {boolean} cold_start
 * @property {CategoryScore[]} categories
 * @property {RecommendedItem[]} items
 * @property {PictureFate[]} pictures
 */

export {};
