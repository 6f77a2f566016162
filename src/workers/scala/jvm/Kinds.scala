package nb.arrow

import java.io.IOException
import java.math.{BigDecimal, BigInteger}
import java.nio.ByteBuffer
import java.nio.charset.StandardCharsets.UTF_8
import java.time.{Duration, Instant, LocalDate, LocalDateTime, LocalTime, Period, ZoneId, ZoneOffset, ZonedDateTime}
import java.util.UUID
import scala.collection.immutable.VectorMap

/** What a batch has of its columns, each taken once: those of a column, then those of what is within it. */
private[arrow] trait Batch {

  /** How many values of the next column are missing. */
  def missing(): Long
  def buffer(): ByteBuffer

  /** The words of this dictionary. */
  def words(id: Long): IndexedSeq[Any]
}

/** A column, or what is within one: what its buffers hold, which are numbers of words where it has a dictionary. */
private[arrow] final case class Field(name: String, stored: Kind, dictionary: Option[Dictionary], within: IndexedSeq[Field]) {

  /** How the type of its values is called. */
  def kind: String = dictionary.fold(stored.name)(_.words.kind)

  /** It and all that is within it. */
  def all: IndexedSeq[Field] = this +: within.flatMap(_.all)

  /** How a value is read. */
  def column(batch: Batch): Int => Any = {
    val missing = batch.missing()
    val present = if (stored.isStored) {
      val valid = batch.buffer()
      val value = stored.value(batch)
      if (missing == 0) value
      else (i: Int) => if ((valid.get(i >> 3) >> (i & 7) & 1) == 1) value(i) else null
    } else stored.value(batch)
    dictionary.fold(present) { dictionary =>
      val words = batch.words(dictionary.id)
      i => present(i) match { case null => null; case word: Number => words(word.intValue) }
    }
  }
}

private[arrow] final case class Dictionary(id: Long, words: Field)

/** What Arrow stores, and how it is called here: `value` reads what is behind the validity, which all have that are stored. */
private[arrow] final case class Kind(name: String, isStored: Boolean = true)(val value: Batch => Int => Any)

private[arrow] object Field {

  /** As a schema has it. */
  def apply(table: Table): Field = {
    val name = table.string(0)
    val within = table.tables(5).map(Field(_))
    val extension = table.tables(6).find(_.string(0) == "ARROW:extension:name").map(_.string(1))
    val own = if (extension.contains("arrow.uuid")) uuid else kind(table.byte(2), table.table(3).get, name, within)
    table.table(4) match {
      case None => Field(name, own, None, within)
      case Some(encoding) =>
        val number = fixed("Int")(data => i => data.getInt(i << 2))
        val stored = encoding.table(1).fold(number)(kind(2, _, name, IndexedSeq.empty))
        Field(name, stored, Some(Dictionary(encoding.long(0), Field("", own, None, within))), within)
    }
  }

  private def fixed(name: String)(value: ByteBuffer => Int => Any): Kind = Kind(name)(batch => value(batch.buffer()))

  private def uuid: Kind = fixed("UUID") { data => i =>
    def half(at: Int) = java.lang.Long.reverseBytes(data.getLong(i * 16 + at))
    new UUID(half(0), half(8))
  }

  /** Where a value of no fixed size begins. */
  private def offsets(data: ByteBuffer, isLarge: Boolean): Int => Int =
    if (isLarge) i => Math.toIntExact(data.getLong(i << 3)) else i => data.getInt(i << 2)

  private def bytes(data: ByteBuffer, start: Int, size: Int): Array[Byte] = {
    val value = new Array[Byte](size)
    val view = data.duplicate()
    view.position(start)
    view.get(value)
    value
  }

  private def binary(isLarge: Boolean)(batch: Batch): Int => Array[Byte] = {
    val (offset, data) = (offsets(batch.buffer(), isLarge), batch.buffer())
    i => bytes(data, offset(i), offset(i + 1) - offset(i))
  }

  private def text(isLarge: Boolean): Kind = Kind("String")(batch => binary(isLarge)(batch).andThen(new String(_, UTF_8)))

  private def list(items: Field, isLarge: Boolean): Kind = Kind(s"Seq[${items.kind}]") { batch =>
    val offset = offsets(batch.buffer(), isLarge)
    val item = items.column(batch)
    i => {
      val start = offset(i)
      new Seen(offset(i + 1) - start, n => item(start + n))
    }
  }

  private def struct(fields: IndexedSeq[Field]): Kind = Kind("Map[String, Any]") { batch =>
    val columns = fields.map(field => field.name -> field.column(batch))
    i => VectorMap.from(columns.map { case (name, value) => name -> value(i) })
  }

  /** A list of pairs. */
  private def map(pairs: Field): Kind = Kind(s"Map[${pairs.within.map(_.kind).mkString(", ")}]") { batch =>
    val offset = offsets(batch.buffer(), isLarge = false)
    // Of the pairs themselves none is missing.
    batch.missing()
    batch.buffer()
    val Seq(key, value) = pairs.within.map(_.column(batch))
    i => VectorMap.from((offset(i) until offset(i + 1)).map(n => key(n) -> value(n)))
  }

  /** Months, days and nanoseconds, as ISO 8601 has them: Java has no type for all three. */
  private def interval(months: Int, days: Int, nanos: Long): String = {
    val (date, time) = (Period.of(0, months, days).normalized, Duration.ofNanos(nanos))
    if (time.isZero) date.toString
    else (if (date.isZero) "P" else date.toString) + time.toString.drop(1)
  }

  /** By the numbers of `Schema.fbs`. */
  private def kind(number: Int, of: Table, name: String, within: IndexedSeq[Field]): Kind = number match {
    case 1 => Kind("Null", isStored = false)(_ => _ => null)
    case 2 =>
      (of.int(0), of.byte(1) != 0) match {
        case (8, true)   => fixed("Byte")(data => i => data.get(i))
        case (8, false)  => fixed("Int")(data => i => data.get(i) & 0xff)
        case (16, true)  => fixed("Short")(data => i => data.getShort(i << 1))
        case (16, false) => fixed("Int")(data => i => data.getShort(i << 1) & 0xffff)
        case (32, true)  => fixed("Int")(data => i => data.getInt(i << 2))
        case (32, false) => fixed("Long")(data => i => data.getInt(i << 2) & 0xffffffffL)
        case (64, true)  => fixed("Long")(data => i => data.getLong(i << 3))
        case _           => fixed("BigInt")(data => i => BigInt(java.lang.Long.toUnsignedString(data.getLong(i << 3))))
      }
    case 3 =>
      of.short(0) match {
        case 1 => fixed("Float")(data => i => data.getFloat(i << 2))
        case 2 => fixed("Double")(data => i => data.getDouble(i << 3))
        case _ => unknown(name, "numbers of half precision")
      }
    case 4  => Kind("Array[Byte]")(binary(isLarge = false))
    case 19 => Kind("Array[Byte]")(binary(isLarge = true))
    case 15 =>
      val width = of.int(0)
      fixed("Array[Byte]")(data => i => bytes(data, i * width, width))
    case 5  => text(isLarge = false)
    case 20 => text(isLarge = true)
    case 6  => fixed("Boolean")(data => i => (data.get(i >> 3) >> (i & 7) & 1) == 1)
    case 7 =>
      val (scale, width) = (of.int(1), of.int(2, 128) / 8)
      fixed("BigDecimal")(data => i => {
        val value = new Array[Byte](width)
        for (at <- 0 until width) value(width - 1 - at) = data.get(i * width + at)
        scala.math.BigDecimal(new BigDecimal(new BigInteger(value), scale))
      })
    case 8 =>
      of.short(0, 1) match {
        case 0 => fixed("LocalDate")(data => i => LocalDate.ofEpochDay(data.getInt(i << 2)))
        case _ => fixed("LocalDate")(data => i => LocalDate.ofEpochDay(Math.floorDiv(data.getLong(i << 3), 86400000L)))
      }
    case 9 =>
      val unit = nanos(of.short(0, 1))
      of.int(1, 32) match {
        case 32 => fixed("LocalTime")(data => i => LocalTime.ofNanoOfDay(data.getInt(i << 2) * unit))
        case _  => fixed("LocalTime")(data => i => LocalTime.ofNanoOfDay(data.getLong(i << 3) * unit))
      }
    case 10 =>
      val unit = nanos(of.short(0))
      def instant(data: ByteBuffer, i: Int): Instant = {
        val (value, perSecond) = (data.getLong(i << 3), 1000000000L / unit)
        Instant.ofEpochSecond(Math.floorDiv(value, perSecond), Math.floorMod(value, perSecond) * unit)
      }
      of.string(1) match {
        case "" => fixed("LocalDateTime")(data => i => LocalDateTime.ofInstant(instant(data, i), ZoneOffset.UTC))
        case zone =>
          val at = ZoneId.of(zone)
          fixed("ZonedDateTime")(data => i => ZonedDateTime.ofInstant(instant(data, i), at))
      }
    case 11 =>
      of.short(0) match {
        case 0 => fixed("String")(data => i => interval(data.getInt(i << 2), 0, 0))
        case 1 => fixed("String")(data => i => interval(0, data.getInt(i << 3), data.getInt((i << 3) + 4) * 1000000L))
        case _ => fixed("String")(data => i => interval(data.getInt(i << 4), data.getInt((i << 4) + 4), data.getLong((i << 4) + 8)))
      }
    case 12 => list(within.head, isLarge = false)
    case 21 => list(within.head, isLarge = true)
    case 16 =>
      val (size, items) = (of.int(0), within.head)
      Kind(s"Seq[${items.kind}]") { batch =>
        val item = items.column(batch)
        i => new Seen(size, n => item(i * size + n))
      }
    case 13 => struct(within)
    case 17 => map(within.head)
    case 18 =>
      val unit = nanos(of.short(0, 1))
      fixed("Duration")(data => i => Duration.ofSeconds(0).plusNanos(Math.multiplyExact(data.getLong(i << 3), unit)))
    case 14 => unknown(name, "unions")
    case other => unknown(name, s"Arrow's type $other")
  }

  private def nanos(unit: Int): Long = Array(1000000000L, 1000000L, 1000L, 1L)(unit)

  private def unknown(name: String, what: String): Nothing =
    throw new IOException(s"the column $name has $what, which have no form here; leave it out, or make it a text")
}
