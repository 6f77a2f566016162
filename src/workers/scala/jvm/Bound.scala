package nb

import java.nio.charset.StandardCharsets.UTF_8
import java.time.format.DateTimeFormatter
import java.time.{Duration, Instant, LocalDate, LocalDateTime, LocalTime, OffsetDateTime, ZoneOffset, ZonedDateTime}
import java.util.UUID
import scala.concurrent.duration.FiniteDuration
import scala.reflect.NameTransformer

/** A variable that no database takes; the message says why. */
final class CannotBeBound(message: String) extends IllegalArgumentException(message)

/** What variables are, for a database: of each a kind and a text, as JSON, like values.py in magics/languages has them. The SQL worker
  * makes the values again.
  */
object Bound {

  /** More are a table's; and a sequence need not end. */
  private val ListedMax = 1000000

  /** What databases have of a second, and what Python reads. */
  private val Time = DateTimeFormatter.ofPattern("HH:mm:ss.SSSSSS")
  private val Date = DateTimeFormatter.ofPattern("uuuu-MM-dd")
  private val DateTime = DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.SSSSSS")

  /** Prints them, on a line of their own. */
  def say(variables: (String, Any)*): Unit = {
    val typed = variables.map { case (name, value) => new Bound(name).typed(value, isWithin = false) }
    println("\n" + ujson.write(ujson.Arr.from(typed), escapeUnicode = true))
  }
}

private final class Bound(name: String) {
  import Bound._

  private def refuse(why: String): Nothing = throw new CannotBeBound(s"$name $why")

  private def as(kind: String, text: String): ujson.Value = ujson.Arr(kind, text)

  private def typed(value: Any, isWithin: Boolean): ujson.Value = value match {
    case null | None                      => as("null", "")
    case Some(value)                      => typed(value, isWithin)
    case value: Boolean                   => as("bool", if (value) "1" else "")
    case _: Byte | _: Short | _: Int | _: Long | _: BigInt | _: java.math.BigInteger => as("int", value.toString)
    case value: Float                     => as("float", value.toDouble.toString)
    case value: Double                    => as("float", value.toString)
    case _: BigDecimal | _: java.math.BigDecimal => as("decimal", value.toString)
    case value: String                    => text(value)
    case value: Char                      => text(value.toString)
    case value: UUID                      => text(value.toString)
    case value: Array[Byte]               => as("bytes", value.map(byte => f"$byte%02x").mkString)
    case value: LocalDate                 => as("date", dated(value).format(Date))
    case value: LocalTime                 => as("time", value.format(Time))
    case value: LocalDateTime             => as("datetime", at(value))
    case value: Instant                   => as("datetime", at(LocalDateTime.ofInstant(value, ZoneOffset.UTC)) + "+00:00")
    case value: ZonedDateTime             => typed(value.toInstant, isWithin)
    case value: OffsetDateTime            => typed(value.toInstant, isWithin)
    case value: Duration                  => as("seconds", (BigDecimal(value.getSeconds) + BigDecimal(value.getNano) / 1000000000).toString)
    case value: FiniteDuration            => typed(Duration.ofNanos(value.toNanos), isWithin)
    case values: collection.Seq[_] if !isWithin => listed(values.iterator)
    case values: collection.Set[_] if !isWithin => listed(values.iterator)
    case values: Array[_] if !isWithin    => listed(values.iterator)
    case _ =>
      val what = if (isWithin) "has in it" else "is"
      val can = "numbers, texts, dates, times, bytes, options and sequences of them can be bound; a frame is queried by its name"
      refuse(s"$what a ${called(value)}: $can")
  }

  private def called(value: Any): String = value match {
    case ()                            => "Unit"
    case _: collection.Map[_, _]       => "Map"
    case _: Iterable[_] | _: Array[_]  => "sequence"
    case _ if value.getClass.getSimpleName.contains("$$Lambda") => "function"
    case _                             => NameTransformer.decode(value.getClass.getSimpleName.stripSuffix("$"))
  }

  private def listed(values: Iterator[Any]): ujson.Value = {
    val first = values.take(ListedMax + 1).map(typed(_, isWithin = true)).toIndexedSeq
    if (first.length > ListedMax) refuse(f"has more than $ListedMax%,d values: put them into a table")
    ujson.Arr("list", ujson.Arr.from(first))
  }

  /** Half a pair of surrogates would become another character on the way. */
  private def text(value: String): ujson.Value =
    if (UTF_8.newEncoder.canEncode(value)) as("text", value)
    else refuse("has half a character in it, which is no text for a database")

  private def at(value: LocalDateTime): String = {
    dated(value.toLocalDate)
    value.format(DateTime)
  }

  /** The worker's Python knows these years. */
  private def dated(day: LocalDate): LocalDate =
    if (day.getYear >= 1 && day.getYear <= 9999) day else refuse(s"is of the year ${day.getYear}: those from 1 to 9999 can be bound")
}
